//! What docs/SPECIFICATION.md promises: every name with its unit and its targets.

/// One promised number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Promise {
    /// Its name in the specification and in the report.
    pub(crate) name: &'static str,
    /// `ms`, `MiB`, `KiB`, or `×` for multiples.
    pub(crate) unit: &'static str,
    /// The median it shall not exceed, where one is promised.
    pub(crate) target_p50: Option<f64>,
    /// The same for the 99th percentile.
    pub(crate) target_p99: Option<f64>,
}

const fn promise(
    name: &'static str,
    unit: &'static str,
    target_p50: Option<f64>,
    target_p99: Option<f64>,
) -> Promise {
    Promise { name, unit, target_p50, target_p99 }
}

/// All of them, in the order of the specification.
pub(crate) const PROMISES: &[Promise] = &[
    promise("floor", "ms", None, None),
    promise("prompt_to_model_warm", "ms", Some(10.0), Some(50.0)),
    promise("prompt_to_model_opencode", "ms", Some(100.0), Some(250.0)),
    promise("claim_to_first_command", "ms", Some(5.0), Some(25.0)),
    promise("tti_1cmd", "ms", Some(15.0), Some(50.0)),
    promise("tti_2cmd", "ms", Some(20.0), Some(60.0)),
    promise("tti_over_floor", "×", Some(8.0), None),
    promise("tti_1cmd_cold", "ms", None, None),
    promise("tti_2cmd_cold", "ms", None, None),
    promise("burst_100_wall", "ms", Some(600.0), None),
    promise("burst_100_1cmd", "ms", None, None),
    promise("burst_100_cold_wall", "ms", None, None),
    promise("burst_100_cold_1cmd", "ms", None, None),
    promise("tti_1cmd_gvisor", "ms", None, None),
    promise("tti_2cmd_gvisor", "ms", None, None),
    promise("tti_1cmd_cold_gvisor", "ms", None, None),
    promise("tti_2cmd_cold_gvisor", "ms", None, None),
    promise("burst_100_wall_gvisor", "ms", None, None),
    promise("burst_100_1cmd_gvisor", "ms", None, None),
    promise("burst_100_cold_wall_gvisor", "ms", None, None),
    promise("burst_100_cold_1cmd_gvisor", "ms", None, None),
    promise("tti_1cmd_microvm", "ms", None, None),
    promise("tti_2cmd_microvm", "ms", None, None),
    promise("tti_1cmd_cold_microvm", "ms", None, None),
    promise("tti_2cmd_cold_microvm", "ms", None, None),
    promise("burst_100_wall_microvm", "ms", None, None),
    promise("burst_100_1cmd_microvm", "ms", None, None),
    promise("burst_100_cold_wall_microvm", "ms", None, None),
    promise("burst_100_cold_1cmd_microvm", "ms", None, None),
    promise("idle_300_pss_kib", "KiB", None, None),
    promise("idle_300_machine_kib", "KiB", None, None),
    promise("idle_300_kernel_kib", "KiB", None, None),
    promise("snapshot_10mb", "ms", Some(15.0), None),
    promise("snapshot_50k_files", "ms", Some(15.0), None),
    promise("restore_to_first_command", "ms", Some(20.0), None),
    promise("fork_20_wall", "ms", Some(400.0), None),
    promise("rebuild_unchanged", "ms", Some(100.0), None),
    promise("stop_to_gone", "ms", Some(100.0), None),
    promise("api_create", "ms", Some(5.0), Some(50.0)),
    promise("api_prompt", "ms", Some(5.0), Some(25.0)),
    promise("load_server_mib", "MiB", Some(150.0), None),
    promise("fanout_100", "ms", Some(5.0), Some(25.0)),
    promise("socket_idle_kib", "KiB", Some(10.0), None),
    promise("reconnect_10_of_100000", "ms", Some(5.0), None),
    promise("list_100000", "ms", Some(10.0), None),
    promise("server_idle_mib", "MiB", Some(60.0), None),
    promise("server_start", "ms", Some(200.0), None),
];
