//! An exposition, read back.

use super::host::Host;
use crate::metrics::{ProcessUse, encode, families::encode_scrape};

/// Samples in their order: name with labels, value.
pub(super) struct Exposition(Vec<(String, f64)>);

impl Exposition {
    pub(super) fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    (series.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    pub(super) fn of(host: &mut Host) -> Self {
        Self::read(&encode_scrape(&host.scrape()))
    }

    /// Everything that a scraper would store, the process's own series among it.
    pub(super) fn series_of(host: &mut Host) -> Vec<String> {
        let text = encode(&host.scrape()).unwrap();
        Self::read(&text)
            .0
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    /// The sum of a family's samples that carry all of these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let sum: f64 = self
            .0
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .filter(|(series, _)| pairs.iter().all(|pair| series.contains(pair)))
            .fold(0.0, |sum, (_, value)| sum + value);
        format!("{sum}").parse().unwrap()
    }

    /// The family has a series.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(series, _)| series.split('{').next() == Some(name))
    }

    /// The value of exactly this series.
    pub(super) fn value(&self, series: &str) -> Option<f64> {
        let found = self.0.iter().find(|(name, _)| name == series);
        found.map(|&(_, value)| value)
    }
}

#[test]
fn families_and_series_are_sorted_unique_and_explained() {
    let mut host = Host::new();
    let text = encode(&host.scrape().with_web_connections(0, 0)).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    assert!(names.is_sorted_by(|one, other| one < other), "{names:?}");
    let types = text.matches("# TYPE ").count();
    assert_eq!(types, names.len());

    let mut series = Exposition::series_of(&mut host);
    let count = series.len();
    series.sort();
    series.dedup();
    assert_eq!(series.len(), count, "a series is there twice");
}

#[test]
fn the_process_tells_a_fraction_of_a_second_of_cpu() {
    // Work until the clock tick, 10 ms, has been counted.
    let mut host = Host::new();
    for _ in 0..10_000 {
        let mut scrape = host.scrape();
        scrape.context.process = ProcessUse::read();
        let found = Exposition::read(&encode(&scrape).unwrap());
        let cpu = found.value("process_cpu_seconds_total").unwrap();
        if cpu.fract() != 0.0 {
            for name in [
                "process_resident_memory_bytes",
                "process_virtual_memory_bytes",
                "process_threads",
                "process_open_fds",
                "process_max_fds",
            ] {
                assert!(found.value(name).unwrap() > 0.0, "{name}");
            }
            let started = found.value("process_start_time_seconds").unwrap();
            let now = jiff::Timestamp::now().as_second() as f64;
            assert!((now - 3600.0..=now + 1.0).contains(&started), "{started}");
            return;
        }
    }
    panic!("never a fraction");
}

#[test]
fn the_build_is_told_and_what_is_not_known_of_it_is_unknown() {
    let text = encode(&Host::new().scrape()).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("tcptrace_build_info{"))
        .unwrap();
    for label in [
        "version=\"0.1.0\"",
        "revision=\"",
        "rustc=\"",
        "ebpf_object=\"",
    ] {
        assert!(line.contains(label), "{line}");
    }
    assert!(!line.contains("=\"\"") && line.ends_with("} 1"), "{line}");
}
