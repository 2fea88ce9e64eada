//! Reading within bounds.

use std::io::Write as _;

use super::*;
use crate::tool::Gate;

fn read(content: &[u8], offset: Option<u64>, limit: Option<u64>) -> Result<String, Error> {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("f"), content).expect("a file");
    let place = Place::new(directory.path().to_owned(), Gate::default());
    run(&Arguments { path: "f".into(), offset, limit }, &place).map(|done| done.text)
}

#[test]
fn lines_come_numbered_and_in_ranges() {
    for (content, offset, limit, expected) in [
        ("a\nb\n", None, None, "     1\ta\n     2\tb"),
        ("a\r\nb", None, None, "     1\ta\n     2\tb"),
        ("a\nb\nc\n", Some(2), Some(1), "     2\tb\n[lines 2 to 2 of 3; go on with offset 3]"),
        ("a\nb\nc\n", Some(0), Some(0), "     1\ta\n[lines 1 to 1 of 3; go on with offset 2]"),
        ("\n\nx", Some(3), None, "     3\tx"),
        ("", None, None, "(the file is empty)"),
    ] {
        assert_eq!(read(content.as_bytes(), offset, limit).expect("readable"), expected);
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    assert!(matches!(read(b"a\0b", None, None), Err(Error::Binary { bytes: 3, .. })));
    let past = read(b"a\nb\n", Some(9), None).expect_err("past the end").to_string();
    assert_eq!(past, "f has only 2 lines, so there is no line 9");

    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("Readme.md"), "x").expect("a file");
    let place = Place::new(directory.path().to_owned(), Gate::default());
    let read = |path: &str| {
        let arguments = Arguments { path: path.into(), offset: None, limit: None };
        run(&arguments, &place).expect_err("unreadable").to_string()
    };
    assert_eq!(read("README"), "README does not exist; did you mean Readme.md?");
    assert_eq!(read("no/such"), "no/such does not exist, and neither does the directory no");
    assert!(read(".").contains("is a directory"));
    assert!(read("/dev/null").contains("neither a file nor a directory"));
}

#[test]
fn long_files_and_long_lines_are_cut() {
    let many = read("line\n".repeat(5000).as_bytes(), None, None).expect("readable");
    assert!(many.ends_with("[lines 1 to 2000 of 5000; go on with offset 2001]"), "{many}");
    let long = read("x".repeat(5000).as_bytes(), None, None).expect("readable");
    assert!(long.ends_with("x [… 3000 bytes of this line left out]"), "{long}");
    let wide = read(format!("{}\n", "y".repeat(1500)).repeat(100).as_bytes(), None, None);
    let wide = wide.expect("readable");
    assert!(
        wide.len() < BYTES + 2000 && wide.contains("of 100; go on with offset"),
        "{}",
        wide.len()
    );
    let latin = read(b"caf\xe9\n", None, None).expect("readable");
    assert_eq!(latin, "     1\tcaf\u{fffd}");
}

#[test]
fn a_file_of_gigabytes_is_read_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut file = File::create(directory.path().join("big")).expect("a file");
    // A sample without zero bytes, then a hole: one line of two gigabytes.
    file.write_all(&[b'x'; 9000]).expect("written");
    file.write_all(b"\nsecond\n").expect("written");
    file.set_len(2 << 30).expect("a sparse file");
    let place = Place::new(directory.path().to_owned(), Gate::default());
    let arguments = Arguments { path: "big".into(), offset: Some(2), limit: Some(1) };
    let begun = std::time::Instant::now();
    let text = run(&arguments, &place).expect("readable").text;
    assert!(text.starts_with("     2\tsecond\n[lines 2 to 2"), "{text}");
    // The one remaining line is passed over in bounded memory; the bound on time is generous.
    assert!(begun.elapsed().as_secs() < 60);
}
