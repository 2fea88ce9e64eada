//! The session's state machine from outside: tables of given, when, then; and random stories.

mod diagrams;
mod flood;
mod grid;
mod limits;
mod people;
mod phases;
mod properties;
mod publishing;
mod recovery;
mod sandboxes;
mod small_world;
mod support;
mod untrusted;
mod view;
mod world;
