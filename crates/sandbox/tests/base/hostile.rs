//! Archives that are refused, each with its reason, and that leave nothing behind.

use sandbox::base::Error;
use sandbox::base::handover::Refusal;
use tar::EntryType;

use crate::archives::{Layer, Packing, header, layout, layout_claiming};
use crate::support::House;

fn table() -> Vec<(&'static str, Refusal, Layer)> {
    let layer = Layer::new;
    let long = "x".repeat(300);
    let deep = "d/".repeat(2500);
    let mut negative = header(EntryType::Regular, "f", "", 0);
    negative.as_old_mut().size = *b"-0000000001\0";
    negative.set_cksum();
    let mut unsummed = header(EntryType::Regular, "f", "", 0);
    unsummed.as_old_mut().cksum = *b"0000001\0";
    let mut huge = header(EntryType::GNULongName, "././@LongLink", "", 1 << 33);
    huge.set_cksum();
    let mut huge_extended = header(EntryType::XHeader, "x", "", 1 << 30);
    huge_extended.set_cksum();
    let mut short = header(EntryType::Regular, "f", "", 1 << 20);
    short.set_cksum();
    vec![
        ("absolute path", Refusal::AbsolutePath, layer().file("/etc/passwd", "x")),
        ("climbing path", Refusal::Climbs, layer().file("../../etc/passwd", "x")),
        ("climbing in the middle", Refusal::Climbs, layer().file("a/../../b", "x")),
        (
            "climbing by an extended header",
            Refusal::Climbs,
            layer().extended(&[("path", "../escape")]).file("innocent", "x"),
        ),
        ("through a link to the root", Refusal::BeneathLink, {
            layer().link("out", "/").file("out/tmp/planted", "x")
        }),
        ("through a link upwards", Refusal::BeneathLink, {
            layer().directory("a/").link("a/up", "../..").file("a/up/planted", "x")
        }),
        ("a directory through a link", Refusal::BeneathLink, {
            layer().link("out", "/etc").directory("out/cron.d/")
        }),
        ("a deletion through a link", Refusal::BeneathLink, {
            layer().link("out", "/etc").file("out/.wh.passwd", "")
        }),
        ("beneath a file", Refusal::BeneathFile, layer().file("f", "x").file("f/g", "x")),
        ("a link becomes a directory", Refusal::KindChanged, {
            layer().link("out", "/etc").directory("out/")
        }),
        ("a directory becomes a link", Refusal::KindChanged, {
            layer().directory("d/").file("d/f", "x").link("d", "/etc")
        }),
        ("hard link upwards", Refusal::Climbs, layer().hard_link("shadow", "../../etc/shadow")),
        ("hard link to an absolute path", Refusal::AbsolutePath, {
            layer().hard_link("shadow", "/etc/shadow")
        }),
        ("hard link to nothing", Refusal::LinkToNothing, layer().hard_link("a", "b")),
        ("hard link to a link", Refusal::LinkToSpecial, {
            layer().link("out", "/etc/shadow").hard_link("shadow", "out")
        }),
        ("hard link through a link", Refusal::BeneathLink, {
            layer().link("out", "/etc").hard_link("shadow", "out/shadow")
        }),
        ("hard link to a directory", Refusal::LinkToSpecial, {
            layer().directory("d/").hard_link("e", "d")
        }),
        ("block device", Refusal::DeviceNode, layer().entry(EntryType::Block, "disk", "", b"")),
        ("character device", Refusal::DeviceNode, {
            layer().entry(EntryType::Char, "etc/null", "", b"")
        }),
        ("deletion of nothing", Refusal::BadWhiteout, layer().file("d/.wh.", "")),
        ("deletion of the directory itself", Refusal::BadWhiteout, layer().file("d/.wh..", "")),
        ("deletion of what is above", Refusal::BadWhiteout, layer().file("d/.wh...", "")),
        ("an overlay's own attribute", Refusal::OverlayAttribute, {
            layer().extended(&[("SCHILY.xattr.user.overlay.redirect", "/etc")]).directory("d/")
        }),
        ("long name", Refusal::BadName, layer().extended(&[("path", &long)]).file("f", "x")),
        ("long path", Refusal::BadName, {
            layer().extended(&[("path", &format!("{deep}f"))]).file("f", "x")
        }),
        ("empty link", Refusal::BadName, layer().link("l", "")),
        ("long name of gigabytes", Refusal::HugeHeader, layer().raw(huge.as_bytes())),
        ("extended header of gigabytes", Refusal::HugeHeader, {
            layer().raw(huge_extended.as_bytes())
        }),
        ("unknown kind", Refusal::UnknownKind, {
            layer().entry(EntryType::new(b'M'), "volume", "", b"")
        }),
        ("size below zero", Refusal::Damaged, layer().raw(negative.as_bytes())),
        ("wrong checksum", Refusal::Damaged, layer().raw(unsummed.as_bytes())),
        ("ends in an entry", Refusal::Damaged, layer().raw(short.as_bytes()).raw(b"few")),
    ]
}

#[tokio::test]
async fn each_is_refused_with_its_reason() {
    let house = House::new();
    let mut wrong = Vec::new();
    for (name, expected, layer) in table() {
        // A good entry before, so that there is something half done.
        let archive = Layer::new().file("before", "x").build();
        let archive = [&archive[..1024], &layer.build()].concat();
        match house.image(&[archive]).await {
            Err(Error::Refused { refused, .. }) if refused.reason == expected => {}
            other => wrong.push(format!("{name}: {other:?}, not {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(house.unpacked(), Vec::<std::path::PathBuf>::new(), "half a layer is left");
    assert!(house.store.list().expect("readable").is_empty(), "a refused image has no name");
}

#[tokio::test]
async fn bombs_end_where_the_limit_is() {
    let house = House::new();
    // 600 MiB of nothing in some kilobytes.
    let mut header = header(EntryType::Regular, "zeros", "", 600 << 20);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.resize(512 + (600 << 20), 0);
    let packed = Packing::Zstandard.pack(&archive);
    assert!(packed.len() < 1 << 20, "{}", packed.len());
    let directory = house.path().join("bomb");
    layout(&directory, &[(Packing::Zstandard, archive)]);
    let pulled = house.pull(&format!("oci:{}", directory.display())).await;
    let Err(Error::Refused { refused, .. }) = pulled else { panic!("{pulled:?}") };
    assert_eq!(refused.reason, Refusal::TooManyBytes);
    assert_eq!(refused.path, "zeros");
    assert!(house.unpacked().is_empty());
}

#[tokio::test]
async fn content_that_is_not_what_was_promised() {
    let house = House::new();
    let layer = (Packing::Gzip, Layer::new().file("a", "1").build());
    let other = (Packing::Gzip, Layer::new().file("a", "2").build());
    let swapped = [&other, &layer].map(|(_, archive)| crate::archives::digest(archive));

    let directory = house.path().join("order");
    layout_claiming(&directory, &[layer.clone(), other.clone()], &swapped);
    let pulled = house.pull(&format!("oci:{}", directory.display())).await;
    assert!(matches!(pulled, Err(Error::Digest { .. })), "layers in another order: {pulled:?}");

    let directory = house.path().join("few");
    layout_claiming(&directory, &[layer.clone(), other], &swapped[..1]);
    let pulled = house.pull(&format!("oci:{}", directory.display())).await;
    assert!(matches!(pulled, Err(Error::Malformed { .. })), "a layer too many: {pulled:?}");

    let directory = house.path().join("changed");
    let layer = (Packing::Gzip, Layer::new().file("a", "3").build());
    layout(&directory, std::slice::from_ref(&layer));
    let packed = layer.0.pack(&layer.1);
    let blob = directory.join("blobs/sha256").join(&crate::archives::digest(&packed)[7..]);
    let mut changed = packed;
    let last = changed.len() - 1;
    changed[last] ^= 1;
    std::fs::write(blob, changed).expect("written");
    let pulled = house.pull(&format!("oci:{}", directory.display())).await;
    assert!(matches!(pulled, Err(Error::Digest { .. })), "a changed blob: {pulled:?}");
    assert!(house.unpacked().is_empty());
}

#[tokio::test]
async fn a_link_of_a_layer_beneath_is_not_followed_either() {
    let house = House::new();
    let below = Layer::new().directory("usr/").directory("usr/lib/").link("lib", "usr/lib").build();
    let above = Layer::new().file("lib/x", "x").build();
    let pulled = house.image(&[below, above]).await;
    let Err(Error::Refused { refused, .. }) = pulled else { panic!("{pulled:?}") };
    assert_eq!(refused.reason, Refusal::BeneathLink);
}
