//! The door over real HTTP and real sockets on the loopback interface.

mod auth;
mod bench;
mod door;
mod events;
mod git;
mod page;
mod problems;
mod secrets;
mod stream;
