//! What `make bench` writes has the promised shape, and the specification says the same as the bench.

#[path = "../benches/promises/promise.rs"]
mod promise;
#[path = "../benches/promises/report.rs"]
mod report;

use std::collections::BTreeMap;
use std::path::Path;

use promise::{PROMISES, Promise};
use report::{Load, Machine, Metric, Report, table};
use serde_json::json;

fn find(name: &str) -> &'static Promise {
    PROMISES.iter().find(|promise| promise.name == name).expect("promised")
}

fn report(samples: Vec<f64>) -> Report {
    let metric = Metric::new(find("tti_1cmd"), samples).expect("samples");
    Report {
        machine: Machine {
            kernel: "Linux 6.1".to_owned(),
            file_system: "ext4".to_owned(),
            cores: 2,
            processor: "A Processor".to_owned(),
            load: Load { before: [0.1, 0.2, 0.3], after: [1.0, 0.5, 0.4] },
            versions: BTreeMap::from([("hangar", "0.1.0".to_owned())]),
        },
        metrics: BTreeMap::from([("tti_1cmd", metric)]),
    }
}

#[test]
fn the_report_has_the_promised_shape() {
    let written = serde_json::to_value(report(vec![4.0, 1.0, 3.0, 2.0])).expect("JSON");
    let expected = json!({
        "machine": {
            "kernel": "Linux 6.1", "file_system": "ext4", "cores": 2, "processor": "A Processor",
            "load": { "before": [0.1, 0.2, 0.3], "after": [1.0, 0.5, 0.4] },
            "versions": { "hangar": "0.1.0" },
        },
        "metrics": { "tti_1cmd": {
            "unit": "ms", "samples": [4.0, 1.0, 3.0, 2.0], "p50": 2.0, "p95": 4.0, "p99": 4.0,
            "target_p50": 15.0, "target_p99": 50.0,
        } },
    });
    assert_eq!(written, expected);
}

#[test]
fn percentiles_are_samples() {
    let metric = Metric::new(find("floor"), (1..=200).map(f64::from).collect()).expect("samples");
    assert_eq!((metric.p50, metric.p95, metric.p99), (100.0, 190.0, 198.0));
    assert_eq!(metric.met(), None, "the floor has no target");
    assert!(Metric::new(find("floor"), Vec::new()).is_none());
}

#[test]
fn the_table_says_what_is_met_missed_and_not_measured() {
    let line = |report: &Report, name: &str| {
        let text = table(report);
        text.lines().find(|line| line.starts_with(name)).expect("a line").to_owned()
    };
    let good = report(vec![14.0; 9]);
    assert!(line(&good, "tti_1cmd").contains(" yes "), "{}", line(&good, "tti_1cmd"));
    let mut slow_tail = vec![14.0; 9];
    slow_tail.push(51.0);
    assert!(line(&report(slow_tail), "tti_1cmd").contains(" NO "));
    assert!(line(&good, "burst_100_wall").ends_with("not yet measured"));
    assert!(table(&good).contains("load 0.10 0.20 0.30 before, 1.00 0.50 0.40 after"));
}

#[test]
fn the_specification_names_the_same_promises_and_targets() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SPECIFICATION.md");
    let text = std::fs::read_to_string(path).expect("docs/SPECIFICATION.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let written: Vec<(String, String)> = rows
        .map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let name = cells.next().expect("a name").trim_matches('`').to_owned();
            (name, cells.nth(1).expect("a target").to_owned())
        })
        .collect();
    let promised: Vec<(String, String)> = PROMISES
        .iter()
        .map(|promise| {
            let target = match (promise.target_p50, promise.target_p99) {
                (Some(p50), Some(p99)) => format!("{p50} {} ({p99})", promise.unit),
                (Some(p50), None) => format!("{p50} {}", promise.unit),
                _ if promise.name == "floor" => "the limit of the machine".to_owned(),
                _ => "none".to_owned(),
            };
            (promise.name.to_owned(), target)
        })
        .collect();
    assert_eq!(written, promised);
}
