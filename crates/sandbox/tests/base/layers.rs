//! What honest layers become: in the store, and in a real sandbox.

use std::os::unix::fs::MetadataExt as _;

use sandbox::base::{Registries, Step};
use tar::EntryType;

use crate::archives::{Layer, Packing, layout};
use crate::support::{House, busybox, open, quiet};

#[tokio::test]
async fn deletions_hide_what_is_beneath_and_only_that() {
    let house = House::new();
    let lower = Layer::new()
        .directory("d/")
        .file("d/gone", "1")
        .file("d/kept", "1")
        .directory("o/")
        .file("o/hidden", "1")
        .directory("r/")
        .file("r/old", "1")
        .directory("whole/")
        .file("whole/f", "1")
        .build();
    let upper = Layer::new()
        .file("d/.wh.gone", "")
        .directory("o/")
        .file("o/.wh..wh..opq", "")
        .file("o/new", "2")
        .file(".wh.r", "")
        .directory("r/")
        .file("r/new", "2")
        .file(".wh.whole", "")
        .file("d/.wh..wh.plnk", "")
        .build();
    let image = house.image(&[busybox(), lower, upper]).await.expect("pulled");
    assert_eq!(image.layers.len(), 3);
    let (_, listed) = house.run(&image, &["sh", "-c", "ls d o r; ls -d whole"]).await;
    let words: Vec<&str> = listed.split_whitespace().take(7).collect();
    assert_eq!(words, ["d:", "kept", "o:", "new", "r:", "new", "ls:"], "{listed}");
}

#[tokio::test]
async fn names_links_times_and_contents_are_kept() {
    let house = House::new();
    let long = format!("{}/{}", "l".repeat(200), "n".repeat(200));
    let mut sparse = vec![0; 3 << 20];
    sparse[2 << 20] = 7;
    let layer = Layer::new()
        .owned(EntryType::Directory, "closed/", (0o500, 0, 1_000_000_001), b"")
        .file("closed/in", "x")
        .owned(EntryType::Regular, "suid", (0o4755, 0, 1_000_000_002), b"x")
        .directory("a/")
        .file("a/first", "same")
        .hard_link("b/second", "a/first")
        .link("dangling", "/no/where")
        .extended(&[("path", &long), ("mtime", "1000000003.5"), ("SCHILY.xattr.user.note", "kept")])
        .file("short", "long name")
        .extended(&[("SCHILY.xattr.security.selinux", "dropped")])
        .file("labelled", "x")
        .entry(EntryType::Regular, "sparse", "", &sparse)
        .entry(EntryType::Fifo, "pipe", "", b"")
        .entry(EntryType::Char, "dev/null", "", b"")
        .file("twice", "1")
        .file("twice", "2")
        .build();
    let image = house.image(&[layer]).await.expect("pulled");
    let root = &image.layers[0];
    let look = |name: &str| std::fs::symlink_metadata(root.join(name)).expect(name);
    assert_eq!((look("closed").mode() & 0o7777, look("closed").mtime()), (0o500, 1_000_000_001));
    assert_eq!((look("suid").mode() & 0o7777, look("suid").mtime()), (0o4755, 1_000_000_002));
    assert_eq!(look("a/first").ino(), look("b/second").ino());
    assert_eq!(
        std::fs::read_link(root.join("dangling")).expect("a link").to_str(),
        Some("/no/where")
    );
    assert_eq!(std::fs::read_to_string(root.join(&long)).expect("read"), "long name");
    assert_eq!((look(&long).mtime(), look(&long).mtime_nsec()), (1_000_000_003, 500_000_000));
    assert_eq!(std::fs::read(root.join("sparse")).expect("read"), sparse);
    assert!(look("sparse").blocks() * 512 < 1 << 20, "{} blocks", look("sparse").blocks());
    assert_eq!(std::fs::read_to_string(root.join("twice")).expect("read"), "2");
    assert!(!root.join("dev/null").exists(), "no sandbox would see it");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(root.join(&long), "user.note", &mut value).expect("kept");
    assert_eq!(&value[..length], b"kept");
    assert_eq!(image.notes.len(), 2, "{:?}", image.notes);
}

#[tokio::test]
async fn owners_are_those_inside() {
    let house = House::new();
    let layer = Layer::new()
        .owned(EntryType::Regular, "hers", (0o640, 1000, 0), b"x")
        .owned(EntryType::Regular, "his", (0o640, 4_000_000, 0), b"x")
        .build();
    let image = house.image(&[busybox(), layer]).await.expect("pulled");
    let script = "stat -c '%u %g %a' hers his; touch /bin/new /etc/new && id -u; \
                  echo $FROM_IMAGE $PATH; ls /usr /etc";
    let (code, said) = house.run(&image, &["sh", "-c", script]).await;
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let is_range = rustix::process::geteuid().is_root();
    assert_eq!(lines[0], if is_range { "1000 1000 640" } else { "0 0 640" }, "{said}");
    assert_eq!(lines[1], "0 0 640", "an owner that does not exist inside is root: {said}");
    assert_eq!(lines[2], "0");
    assert!(lines[3].starts_with("yes ") && lines[3].contains("/image/bin"), "{said}");
    let counted = if is_range { "1 files" } else { "2 files" };
    assert!(image.notes.iter().any(|note| note.starts_with(counted)), "{:?}", image.notes);
    // Nothing of the host: an empty /usr, and of /etc only what every sandbox has.
    assert!(!said.contains("share") && !said.contains("ssl"), "{said}");
}

/// A directory that an archive does not name looks as beneath: `/tmp` stays open to all.
#[tokio::test]
async fn what_a_layer_leaves_open_is_as_beneath() {
    let house = House::new();
    let lower = Layer::new().owned(EntryType::Directory, "open/", (0o1777, 0, 5), b"").build();
    let upper = Layer::new().file("open/more/file", "x").build();
    let image = house.image(&[lower, upper]).await.expect("pulled");
    let found = image.layers[0].join("open").metadata().expect("there");
    assert_eq!((found.mode() & 0o7777, found.mtime()), (0o1777, 5));
}

#[tokio::test]
async fn every_packing_is_unpacked_once_and_found_again() {
    let house = House::new();
    let layers = [
        (Packing::Plain, busybox()),
        (Packing::Gzip, Layer::new().file("gzip", "1").build()),
        (Packing::Zstandard, Layer::new().file("zstd", "1").build()),
    ];
    let directory = house.path().join("all");
    layout(&directory, &layers);
    let name = format!("oci:{}:latest", directory.display());
    let first = house.pull(&name).await.expect("pulled");
    let (_, said) = house.run(&first, &["ls", "/"]).await;
    assert!(said.contains("gzip") && said.contains("zstd"), "{said}");

    // Another store over the same directory, as after a restart; nothing is unpacked again.
    let again = open(house.path(), Registries::default());
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&seen);
    let progress: sandbox::base::Progress =
        std::sync::Arc::new(move |step| told.lock().expect("whole").push(step));
    let reference = name.parse().expect("a reference");
    assert_eq!(again.find(&reference), Some(first.clone()));
    assert_eq!(again.pull(&reference, &progress).await.expect("pulled"), first);
    assert_eq!(*seen.lock().expect("whole"), [Step::Resolving]);

    // What something was built on stays when its name goes.
    let needed = [first.digest.clone()];
    assert!(again.remove(&reference, &needed).await.expect("removed"));
    assert_eq!(again.find(&reference), None);
    assert_eq!(again.image(&first.digest), Some(first.clone()));
    again.pull(&reference, &quiet()).await.expect("pulled");
    assert!(again.remove(&reference, &[]).await.expect("removed"));
    assert_eq!(again.image(&first.digest), None);
    assert!(house.unpacked().is_empty());
    assert!(!again.remove(&reference, &[]).await.expect("nothing to do"));
}

/// Without libc, without a shell: the stand-in is static, and what cannot run says so.
#[tokio::test]
async fn an_image_may_hold_nothing_at_all() {
    let house = House::new();
    let image = house.image(&[Layer::new().file("only", "x").build()]).await.expect("pulled");
    let launcher = "/opt/hangar/bin/hangar-agentd";
    let failed = tokio::spawn(async move { house.run(&image, &["sh", "-c", "true"]).await }).await;
    let text =
        format!("{:?}", failed.map_err(|panic| panic.into_panic().downcast::<String>().ok()));
    assert!(text.contains("No such file"), "{launcher}: {text}");
}
