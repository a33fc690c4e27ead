//! An explanation as text.

use std::fmt;

use super::{ClusterStory, Explanation};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} for {}", self.name, self.r#type, self.client)?;
        let location = &self.location;
        writeln!(f, "client    {} (by {}, {})", location.place, location.source, location.network)?;
        writeln!(f, "name      {}", self.found)?;
        if let Some(story) = &self.service {
            writeln!(f, "path      {}", story.path.join(" -> "))?;
            writeln!(f, "end       {}", story.end)?;
            writeln!(f, "policy    {}", story.policy)?;
            writeln!(f)?;
            clusters(f, &story.clusters)?;
            for cluster in &story.clusters {
                if let Some(remark) = &cluster.remark {
                    writeln!(f, "{}: {remark}", cluster.cluster)?;
                }
            }
        }
        writeln!(f)?;
        writeln!(f, "{}, scope {}", self.rcode, self.scope)?;
        if let Some(limit) = self.service.as_ref().and_then(|story| story.limit.as_ref()) {
            writeln!(f, "  kept from being wider by {limit}")?;
        }
        for record in self.answer.iter().chain(&self.authority) {
            writeln!(f, "  {record}")?;
        }
        write!(f, "generation {}, serial {}", self.generation, self.serial)
    }
}

/// The clusters as columns.
fn clusters(f: &mut fmt::Formatter<'_>, clusters: &[ClusterStory]) -> fmt::Result {
    let head = ["#", "cluster", "location", "km", "addresses", "not in the answer because it"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(clusters.iter().map(|cluster| {
        [
            cluster.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string()),
            cluster.cluster.clone(),
            cluster.location.clone(),
            cluster.distance_km.map_or_else(|| "?".to_owned(), |km| format!("{km:.0}")),
            cluster.addresses.join(" "),
            match (&cluster.excluded, &cluster.since) {
                (Some(reason), Some(since)) => format!("{reason}, since {since}"),
                (reason, _) => reason.clone().unwrap_or_default(),
            },
        ]
    }));
    columns(f, &rows)
}

/// Rows as columns, each as wide as its widest cell.
pub(super) fn columns<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    rows: &[[String; N]],
) -> fmt::Result {
    let widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
