//! Metric families made by hand, for the collectors that sum when a scrape asks.

use std::collections::HashMap;

use prometheus::core::Desc;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// Name and help text of a family.
pub(super) type Named = (&'static str, &'static str);

/// The description under which a collector registers a family. Variable labels are left out:
/// the registry uses a description only to refuse two collectors with one name.
pub(super) fn describe((name, help): Named) -> Desc {
    // Fails for an invalid name or an empty help text only; both are constants.
    Desc::new(name.into(), help.into(), Vec::new(), HashMap::new()).expect("valid metric name")
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// One series of a counter.
pub(super) fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_counter(counter);
    metric
}

/// One series of a gauge.
pub(super) fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_gauge(gauge);
    metric
}

/// Observations counted by upper bound, each in one bucket.
pub(super) struct Distribution {
    /// Upper bound and how many observations are at most that and above the bound before.
    pub(super) buckets: Vec<(f64, u64)>,
    /// How many are above all bounds.
    pub(super) beyond: u64,
    /// Sum of all observations.
    pub(super) sum: f64,
}

impl Distribution {
    /// The series, with the cumulative counts that Prometheus asks for.
    pub(super) fn metric(self, labels: &[(&str, &str)]) -> Metric {
        let mut total = 0;
        let cumulative = |(bound, count)| {
            total += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(total);
            bucket
        };
        let buckets = self.buckets.into_iter().map(cumulative).collect();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(total + self.beyond);
        histogram.set_sample_sum(self.sum);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(histogram);
        metric
    }
}

fn family((name, help): Named, kind: MetricType, series: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(series);
    family
}

/// A family of counters.
pub(super) fn counters(named: Named, series: Vec<Metric>) -> MetricFamily {
    family(named, MetricType::COUNTER, series)
}

/// A family of gauges.
pub(super) fn gauges(named: Named, series: Vec<Metric>) -> MetricFamily {
    family(named, MetricType::GAUGE, series)
}

/// A family of histograms.
pub(super) fn histograms(named: Named, series: Vec<Metric>) -> MetricFamily {
    family(named, MetricType::HISTOGRAM, series)
}
