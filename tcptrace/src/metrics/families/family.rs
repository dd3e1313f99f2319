//! A metric family under construction.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily,
    MetricType,
};

use crate::metrics::histogram::Histogram;

pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    metrics: Vec<Metric>,
}

impl Family {
    pub(super) const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(name, labels, help, MetricType::COUNTER)
    }

    pub(super) const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(name, labels, help, MetricType::GAUGE)
    }

    pub(super) const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(name, labels, help, MetricType::HISTOGRAM)
    }

    const fn new(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        kind: MetricType,
    ) -> Self {
        Self {
            name,
            help,
            kind,
            labels,
            metrics: Vec::new(),
        }
    }

    /// Adds one series of a counter or a gauge, with the values of its labels in order.
    pub(super) fn add(&mut self, values: &[&str], value: f64) {
        let mut metric = self.labelled(values);
        match self.kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            MetricType::GAUGE => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            MetricType::HISTOGRAM | MetricType::SUMMARY | MetricType::UNTYPED => {
                debug_assert!(false, "{} has no plain value", self.name);
            }
        }
        self.metrics.push(metric);
    }

    /// Adds one series with a count.
    pub(super) fn add_count(&mut self, values: &[&str], count: u64) {
        // The exposition format knows only floats: above 2^53 the last digits are lost.
        self.add(values, count as f64);
    }

    pub(super) fn add_histogram<const N: usize>(
        &mut self,
        values: &[&str],
        histogram: &Histogram<N>,
    ) {
        let mut proto = HistogramProto::default();
        let bucket = |(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        proto.set_bucket(histogram.cumulative().map(bucket).collect());
        proto.set_sample_count(histogram.count());
        proto.set_sample_sum(histogram.sum_seconds());
        let mut metric = self.labelled(values);
        metric.set_histogram(proto);
        self.metrics.push(metric);
    }

    fn labelled(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        Metric::from_label(self.labels.iter().zip(values).map(pair).collect())
    }

    /// Returns its row in the table of all metrics.
    #[cfg(test)]
    pub(super) fn row(&self) -> String {
        let kind = match self.kind {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY | MetricType::UNTYPED => "untyped",
        };
        let (name, labels) = (self.name, self.labels.join(", "));
        let help = self.help.replace('|', "\\|");
        format!("| `{name}` | {kind} | {labels} | {help} |\n")
    }

    /// Returns the family for the encoder; `None` without series.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(self.metrics);
        Some(family)
    }
}
