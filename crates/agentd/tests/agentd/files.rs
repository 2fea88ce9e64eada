//! Files for the host.

use protocol::agentd::Listing;

use crate::harness::{Agentd, connect, eventually};

fn target(agentd: &Agentd, name: &str) -> String {
    format!("/v1/files?path={}", agentd.path(name).display())
}

#[test]
fn a_file_reads_back_as_written() {
    let agentd = Agentd::start();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let place = target(&agentd, "workspace/new/odd%20name%0A.bin");
    assert_eq!(agentd.request("PUT", &place, &bytes).status, 204);
    assert!(agentd.path("workspace/new/odd name\n.bin").exists());
    let answer = agentd.get(&place);
    assert_eq!((answer.status, answer.body), (200, bytes));
}

#[test]
fn an_empty_file_is_a_file() {
    let agentd = Agentd::start();
    let place = target(&agentd, "workspace/empty");
    assert_eq!(agentd.request("PUT", &place, b"").status, 204);
    let answer = agentd.get(&place);
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn a_directory_lists_sorted_with_kinds() {
    use std::os::unix::ffi::OsStrExt as _;

    let agentd = Agentd::start();
    let workspace = agentd.path("workspace");
    std::fs::create_dir(workspace.join("b")).expect("made");
    std::fs::write(workspace.join("a"), "12345").expect("written");
    std::os::unix::fs::symlink("/etc", workspace.join("c")).expect("linked");
    let odd = std::ffi::OsStr::from_bytes(b"d\xFF");
    std::fs::write(workspace.join(odd), "").expect("written");
    let listing: Listing = agentd.get(&target(&agentd, "workspace")).json();
    let told: Vec<_> =
        listing.entries.iter().map(|entry| (entry.name.as_str(), entry.kind.as_str())).collect();
    assert_eq!(told, [("a", "file"), ("b", "directory"), ("c", "symlink"), ("d\\xFF", "file")]);
    assert_eq!(listing.entries[0].size, 5);
}

#[test]
fn what_cannot_be_read_or_written_says_why() {
    let agentd = Agentd::start();
    let missing = agentd.get(&target(&agentd, "workspace/missing"));
    assert!(missing.failure().contains("No such file"), "{}", missing.failure());
    let relative = agentd.get("/v1/files?path=etc/passwd");
    assert_eq!(relative.status, 400);
    assert!(relative.failure().contains("absolute"));
    let device = agentd.get("/v1/files?path=/dev/zero");
    assert!(device.failure().contains("neither a file nor a directory"));
    let onto = agentd.request("PUT", &target(&agentd, "workspace"), b"x");
    assert!(onto.failure().contains("writing"), "{}", onto.failure());
    assert_eq!(agentd.get("/v1/files").status, 400);
    assert_eq!(agentd.get("/v1/nothing").status, 404);
}

#[test]
fn a_broken_upload_changes_nothing() {
    use std::io::Write as _;

    let agentd = Agentd::start();
    let path = agentd.path("workspace/kept");
    std::fs::write(&path, "old").expect("written");
    for _ in 0..20 {
        let mut stream = connect(&agentd.path("agentd.sock"));
        let head = format!(
            "PUT {} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nnew",
            target(&agentd, "workspace/kept")
        );
        stream.write_all(head.as_bytes()).expect("sent");
    }
    let given_up = || {
        let pattern = format!("put\0{}", path.display());
        !processes().iter().any(|line| line.contains(&pattern))
    };
    eventually("the uploads are given up", given_up);
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "old");
}

/// The command line of every process.
fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("there");
    entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}
