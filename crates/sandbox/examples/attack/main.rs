//! Attacks that no shell can try: a static program for the attack suite, run inside a sandbox.
//!
//! It says `DONE: what came of it` and ends with 0 if the effect was there, and `REFUSED: call
//! ERROR` and ends with 1 if it was not. Tried where nothing prevents it, it says `DONE`: the suite
//! checks that too, so that a mistake in here cannot pass for a wall.
#![expect(unsafe_code, reason = "an attacker calls the kernel directly")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::many_single_char_names,
    reason = "six registers of numbers are all that the kernel knows"
)]
#![expect(clippy::print_stdout, clippy::exit, reason = "it answers in words and by exit code")]

mod calls;
mod kernel;
mod mounts;
mod processes;
mod sockets;

use calls::Attempted;

type Attack = fn(&[String]) -> Attempted;

const ATTACKS: &[(&str, Attack)] = &[
    ("mount", mounts::mount),
    ("mount-new", mounts::mount_new),
    ("remount", mounts::remount),
    ("set-attributes", mounts::set_attributes),
    ("unmask", mounts::unmask),
    ("pivot", mounts::pivot),
    ("chroot", mounts::chroot),
    ("groups", mounts::groups),
    ("handle", mounts::handle),
    ("device", mounts::device),
    ("write-back", mounts::write_back),
    ("create", mounts::create),
    ("trace", processes::trace),
    ("memory", processes::memory),
    ("look", processes::look),
    ("enter", processes::enter),
    ("take-descriptor", processes::take_descriptor),
    ("signal", processes::signal),
    ("slow", processes::slow),
    ("limit", processes::limit),
    ("namespaces", processes::namespaces),
    ("overwrite", processes::overwrite),
    ("who", processes::who),
    ("type", processes::type_into_terminal),
    ("bpf", kernel::bpf),
    ("perf", kernel::perf),
    ("userfaultfd", kernel::userfaultfd),
    ("io-uring", kernel::io_uring),
    ("keyring", kernel::keyring),
    ("clock", kernel::clock),
    ("load", kernel::load),
    ("log", kernel::log),
    ("machine", kernel::machine),
    ("personality", kernel::personality),
    ("name", kernel::name),
    ("i386", kernel::i386),
    ("x32", kernel::x32),
    ("landlock", kernel::landlock),
    ("raw", sockets::raw),
    ("families", sockets::families),
    ("netlink", sockets::netlink),
    ("abstract", sockets::abstract_connect),
    ("abstract-listen", sockets::abstract_listen),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let found = arguments.first().and_then(|verb| ATTACKS.iter().find(|(name, _)| name == verb));
    let Some((_, attack)) = found else {
        let names: Vec<&str> = ATTACKS.iter().map(|(name, _)| *name).collect();
        println!("usage: attack VERB ARGUMENT…\nverbs: {}", names.join(" "));
        std::process::exit(2);
    };
    match attack(&arguments[1..]) {
        Ok(detail) => println!("DONE: {detail}"),
        Err(refusals) => {
            println!("REFUSED: {}", refusals.join(", "));
            std::process::exit(1);
        }
    }
}
