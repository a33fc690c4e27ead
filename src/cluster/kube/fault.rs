//! Errors of kube told apart, in words for those who mend them.

use kube::Error;
use kube::runtime::watcher;

use crate::cluster::link::Fault;

/// The class of a watcher's error.
pub(super) fn of_watch(error: &watcher::Error) -> Fault {
    use watcher::Error::*;
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => of(error),
        WatchError(status) => of_code(status.code),
        NoResourceVersion => Fault::Undecodable,
    }
}

/// The class of a request's error.
pub(in crate::cluster) fn of(error: &Error) -> Fault {
    match error {
        Error::Api(status) => of_code(status.code),
        Error::Auth(_) => Fault::Unauthorized,
        Error::FromUtf8(_) | Error::SerdeError(_) | Error::LinesCodecMaxLineLengthExceeded => {
            Fault::Undecodable
        }
        Error::BuildRequest(_) | Error::HttpError(_) => Fault::Refused,
        // Credentials are fetched by a layer, whose errors come wrapped.
        Error::Service(inner) if is_auth(&**inner) => Fault::Unauthorized,
        _ => Fault::Unreachable,
    }
}

fn is_auth(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<kube::client::AuthError>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn of_code(code: u16) -> Fault {
    match code {
        401 => Fault::Unauthorized,
        403 => Fault::Forbidden,
        404 => Fault::Missing,
        410 => Fault::Expired,
        429 => Fault::Throttled,
        500.. => Fault::ServerError,
        _ => Fault::Refused,
    }
}

/// Whether the server refuses to begin a watch by sending all objects: "the API server ...
/// responds with an Invalid error" where the feature is off, and older ones call the parameters a
/// bad request.
pub(super) fn refuses_streaming(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(Error::Api(status)) = error else { return false };
    matches!(status.code, 400 | 422)
}

/// Whether the server breaks off a stream that should send all objects for a fault of its own, as it
/// does where it cannot stream them: "the required storage feature RequestWatchProgress is
/// disabled", over etcd 3.4.23.
pub(super) fn cannot_stream(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 500)
}

/// A watcher's error for people.
pub(super) fn describe_watch(error: &watcher::Error) -> String {
    use watcher::Error::*;
    match error {
        InitialListFailed(error) => format!("cannot list: {}", describe(error)),
        WatchStartFailed(error) => format!("cannot watch: {}", describe(error)),
        WatchFailed(error) => format!("the watch broke: {}", describe(error)),
        WatchError(status) => {
            format!("the watch was ended: {}", of_status(status.code, &status.message))
        }
        NoResourceVersion => "the list has no resourceVersion".to_owned(),
    }
}

/// A request's error for people.
pub(in crate::cluster) fn describe(error: &Error) -> String {
    match error {
        Error::Api(status) => of_status(status.code, &status.message),
        error => chain(error),
    }
}

fn of_status(code: u16, message: &str) -> String {
    let message = message.trim();
    if message.is_empty() { format!("status {code}") } else { format!("status {code}: {message}") }
}

/// An error with its causes, but for those that it tells itself.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16) -> Error {
        Error::Api(Box::new(Status { code, message: "why".to_owned(), ..Status::default() }))
    }

    #[test]
    fn reasons_are_told_apart() {
        let expected = [
            (401, Fault::Unauthorized),
            (403, Fault::Forbidden),
            (404, Fault::Missing),
            (410, Fault::Expired),
            (422, Fault::Refused),
            (429, Fault::Throttled),
            (500, Fault::ServerError),
            (503, Fault::ServerError),
        ];
        for (code, fault) in expected {
            assert_eq!(of_watch(&watcher::Error::InitialListFailed(api(code))), fault, "{code}");
        }
        assert_eq!(describe(&api(403)), "status 403: why");
        assert!(refuses_streaming(&watcher::Error::WatchStartFailed(api(422))));
        assert!(!refuses_streaming(&watcher::Error::WatchStartFailed(api(403))));
        let event =
            |code| watcher::Error::WatchError(Box::new(Status { code, ..Status::default() }));
        assert!(cannot_stream(&event(500)));
        assert!(!cannot_stream(&event(410)) && !cannot_stream(&event(429)));
    }
}
