//! Work that is done at once where it is little, and off the async threads else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::task::spawn_blocking;

/// Where work is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Here.
    AtOnce,
    /// Off the async threads.
    InBackground,
}

/// What a panic said.
pub(super) struct Panicked(pub(super) String);

impl Work {
    /// Does `work`, and waits for it.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        match self {
            // What panics leaves nothing half done: it makes a value of values that never change.
            Self::AtOnce => catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Panicked(text.unwrap_or_default())
            }),
            Self::InBackground => {
                spawn_blocking(work).await.map_err(|panic| Panicked(panic.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_wherever_it_was() {
        for work in [Work::AtOnce, Work::InBackground] {
            assert!(matches!(work.run(|| 7).await, Ok(7)));
            let done: Result<u8, _> = work.run(|| panic!("no {}", "way")).await;
            let Err(Panicked(why)) = done else { panic!("it returned") };
            assert!(why.contains("no way"), "{why}");
        }
    }
}
