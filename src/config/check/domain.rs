//! The apex, and what of the space below it is the federation's own.

use super::clusters::Registry;
use super::notes::{Notes, Refused, at};
use crate::config::raw;
use crate::model::{DomainName, Label};

/// The federation's part of the domain, as far as it is known.
#[derive(Clone, Copy)]
pub(super) struct Tree<'a> {
    pub domain: Result<&'a DomainName, Refused>,
    pub federation: Result<&'a Label, Refused>,
    pub registry: &'a Registry,
}

impl Tree<'_> {
    /// Why nothing but the federation's names may stand at `name`, as the label beside the apex
    /// tells; `None` where something may, or `name` is not below the apex.
    pub(super) fn claim(&self, name: &DomainName) -> Option<String> {
        let domain = self.domain.ok().filter(|domain| name.is_within(domain))?;
        let above = name.labels().count().checked_sub(domain.labels().count() + 1)?;
        let beside = name.labels().nth(above)?;
        let owner = if self.federation.is_ok_and(|federation| federation.as_bytes() == beside) {
            "is its name".to_owned()
        } else if Label::RESERVED.iter().any(|reserved| reserved.as_bytes() == beside) {
            "is reserved".to_owned()
        } else {
            format!("is {}", self.registry.place_named(beside)?.path)
        };
        let label = String::from_utf8_lossy(beside);
        Some(format!("names in {label}.{domain} are the federation's, as '{label}' {owner}"))
    }
}

/// The apex: not the root, and short enough for names of services.
pub(super) fn domain(
    raw: &raw::Text,
    federation: Result<&Label, Refused>,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<DomainName, Refused> {
    let at = at("federation.domain", raw);
    let domain = DomainName::parse(&raw.value).map_err(|e| notes.mistake(&at, e.to_string()))?;
    let own = domain.wire().len();
    if own == 1 {
        return Err(notes.mistake(&at, "the root cannot be dedicated to a federation"));
    }
    if let Ok(federation) = federation {
        let (level, octets) = registry.longest_level(federation);
        let most = DomainName::MAX_LEN.saturating_sub(octets + SHORTEST_SERVICE);
        if own > most {
            // Yielded all the same, so that what stands in the domain is still checked.
            notes.mistake(
                &at,
                format!(
                    "is too long: its {own} octets leave no room for services in \
                     S.N.{level}.{domain}; with these names it may have {most} of the {} octets \
                     of a name",
                    DomainName::MAX_LEN
                ),
            );
        }
    }
    Ok(domain)
}

/// `S.N` of one letter each, in octets.
const SHORTEST_SERVICE: usize = 4;
