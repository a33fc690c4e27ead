//! Files in, events out; each look is called by hand, so nothing waits.

mod reading;
mod watching;

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::cluster::Export;
use crate::cluster::state::{Changed, ClusterState};
use crate::model::{ClusterView, DomainName};

/// How long what vanishes at one stroke is kept.
const CONFIRM: Duration = Duration::from_secs(300);

/// A directory, its scanner, and the state that it feeds.
struct Directory {
    home: TempDir,
    scanner: Scanner,
    state: ClusterState,
}

impl Directory {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let apex = DomainName::parse("example.com").unwrap();
        let rules = Arc::new(Rules::new(Export::All, [].into(), apex));
        let scanner = Scanner::new(home.path().join("manifests"), rules.clone());
        fs::create_dir(home.path().join("manifests")).unwrap();
        Self { home, scanner, state: ClusterState::new(rules, CONFIRM) }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Looks once.
    fn look(&mut self) -> Changed {
        let mut changed = Changed::Nothing;
        for event in self.scanner.scan() {
            if self.state.apply(event) == Changed::View {
                changed = Changed::View;
            }
        }
        changed
    }

    /// Looks until two looks have agreed on every change.
    fn settle(&mut self) -> Changed {
        let changes = [self.look(), self.look(), self.look()];
        if changes.contains(&Changed::View) { Changed::View } else { Changed::Nothing }
    }

    fn view(&self) -> Arc<ClusterView> {
        self.state.view().expect("complete")
    }

    /// The services of the view, as `name address`.
    fn services(&self) -> Vec<String> {
        let view = self.view();
        let mut services: Vec<String> = view
            .shards
            .iter()
            .map(|entry| {
                let addresses = entry.shard.addresses.iter();
                let address = addresses.map(ToString::to_string).collect::<Vec<_>>().join(",");
                format!("{} {address}", entry.key.name())
            })
            .collect();
        services.sort();
        services
    }

    /// The reports, with subjects relative to the directory.
    fn reports(&self) -> Vec<String> {
        let directory = self.path("").display().to_string();
        self.view()
            .reports
            .iter()
            .map(|report| format!("{}: {}", report.subject, report.reason).replace(&directory, ""))
            .collect()
    }
}

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  externalIPs: [{address}]\n"
    )
}
