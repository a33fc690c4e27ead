//! A drill as text.

use std::fmt;

use super::super::table::columns;
use super::{Drill, Move, PerFamily};

/// How many services that would be lost are named; the rest is counted.
const NAMED: usize = 50;

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "without {} (generation {})", self.clusters.join(", "), self.generation)?;
        for cluster in &self.already_out {
            writeln!(f, "{cluster} serves nothing as it is")?;
        }
        let PerFamily { ipv4, ipv6 } = self.touched;
        writeln!(
            f,
            "{ipv4} of {} services lose a served shard with IPv4 addresses, {ipv6} of {} one with \
             IPv6 addresses",
            self.services.ipv4, self.services.ipv6
        )?;
        writeln!(f, "\nclient address space, the mean over those services\n")?;
        self.shares(f)?;
        if self.lost.is_empty() {
            return write!(f, "\nno service would be without a shard");
        }
        write!(f, "\nwithout a shard:")?;
        for lost in self.lost.iter().take(NAMED) {
            let rest = if lost.gone { "" } else { ", others are left" };
            write!(f, "\n  {} ({}{rest})", lost.service, lost.types.join(", "))?;
        }
        match self.lost.len().checked_sub(NAMED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n  and {more} more"),
        }
    }
}

impl Drill {
    /// A line for each pair of clusters, and what stays.
    fn shares(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |share: PerFamily<f64>| {
            let cell = |share, services| match services {
                0 => "-".to_owned(),
                _ => format!("{:5.1} %", 100.0 * share),
            };
            [cell(share.ipv4, self.services.ipv4), cell(share.ipv6, self.services.ipv6)]
        };
        let row = |from: &str, to: &str, [ipv4, ipv6]: [String; 2]| {
            [from.to_owned(), to.to_owned(), ipv4, ipv6]
        };
        let mut rows = vec![row("from", "to", ["IPv4", "IPv6"].map(str::to_owned))];
        let mut stays = PerFamily { ipv4: 1.0, ipv6: 1.0 };
        for Move { from, to, share } in &self.moves {
            stays.ipv4 -= share.ipv4;
            stays.ipv6 -= share.ipv6;
            rows.push(row(from, to.as_deref().unwrap_or("nothing"), cells(*share)));
        }
        rows.push(row("", "stays", cells(stays)));
        columns(f, &rows)
    }
}
