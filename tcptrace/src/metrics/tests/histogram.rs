use super::*;

#[test]
fn a_bound_belongs_to_its_bucket_and_the_next_nanosecond_does_not() {
    for (at, &bound) in LATENCY_BOUNDS.iter().enumerate() {
        let mut histogram = LatencyHistogram::new(&LATENCY_BOUNDS);
        histogram.observe(bound);
        histogram.observe(bound + 1);
        let cumulative: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative[at], 1, "at {bound}");
        assert_eq!(at.checked_sub(1).map_or(0, |before| cumulative[before]), 0);
        let expected_after = if at + 1 < cumulative.len() { 2 } else { 1 };
        assert_eq!(*cumulative.last().unwrap(), expected_after);
        assert_eq!(histogram.count(), 2);
    }
}

#[test]
fn bounds_rise_and_are_printed_as_the_contract_writes_them() {
    assert!(LATENCY_BOUNDS.is_sorted() && DURATION_BOUNDS.is_sorted());
    let printed = |bounds: Vec<f64>| {
        let text: Vec<String> = bounds.iter().map(ToString::to_string).collect();
        text.join(" ")
    };
    let latency = LatencyHistogram::new(&LATENCY_BOUNDS);
    assert_eq!(
        printed(latency.cumulative().map(|(bound, _)| bound).collect()),
        "0.00005 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2 3 5 7 \
         15 31 67"
    );
    let duration = DurationHistogram::new(&DURATION_BOUNDS);
    assert_eq!(
        printed(duration.cumulative().map(|(bound, _)| bound).collect()),
        "0.001 0.003 0.01 0.03 0.1 0.3 1 3 10 30 100 300 900 3600 10800 28800 86400"
    );
    for pair in DURATION_BOUNDS.windows(2) {
        let step = pair[1] as f64 / pair[0] as f64;
        assert!((2.5..=4.0).contains(&step), "{pair:?}");
    }
}

#[test]
fn the_sum_keeps_the_small_beside_the_large() {
    let mut histogram = DurationHistogram::new(&DURATION_BOUNDS);
    for _ in 0..4 {
        histogram.observe(u64::MAX);
    }
    histogram.observe(1);
    assert_eq!(histogram.sum_ns, 4 * u128::from(u64::MAX) + 1);
    assert!(histogram.sum_seconds() > 73e9);
    assert_eq!(histogram.count(), 5);
}
