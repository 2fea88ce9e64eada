//! Who decides what, and where wishes end.

use protocol::UserId;
use protocol::session::{Author, Dialect, ModelChoice};

use super::*;

fn server() -> ServerSettings {
    ServerSettings {
        user: Author { user: UserId::new(), name: String::new(), email: String::new() },
        default_agent: "built-in".to_owned(),
        default_model: ModelChoice {
            provider: "rehearsal".to_owned(),
            name: "rehearsal".to_owned(),
            dialect: Dialect::Anthropic,
        },
        toolkit: "/nowhere".into(),
        limits: Limits { pids: 512, ..Limits::default() },
        maximum_limits: Limits { pids: 1000, ..Limits::MOST },
        isolation: Isolation::Namespaces,
    }
}

fn file(text: &str) -> Settings {
    Settings::parse(text).expect("well formed")
}

fn pids(pids: u32) -> LimitRequest {
    LimitRequest { pids: Some(pids), ..LimitRequest::default() }
}

fn of_people(limits: LimitRequest) -> RepositorySettings {
    RepositorySettings { limits, ..RepositorySettings::default() }
}

#[test]
fn nobody_asks_for_anything() {
    let nothing = effective(
        &server(),
        &RepositorySettings::default(),
        &Settings::default(),
        Asked::default(),
    );
    assert_eq!(nothing.limits, server().limits);
    assert_eq!(nothing.isolation, Isolation::Namespaces);
    assert_eq!((nothing.base, nothing.team), (None, None));
    assert_eq!(nothing.network, Network::default());
}

#[test]
fn the_nearest_word_about_a_limit_counts_within_what_it_may_say() {
    let toml = |count: u32| format!("[sandbox]\npids = {count}\n");
    // people, hangar.toml, session: what comes of it
    for (people, repository, session, expected) in [
        (None, None, None, 512),
        (Some(100), None, None, 100),
        (None, Some(800), None, 800),
        (None, Some(5000), None, 1000),
        (Some(100), Some(50), None, 50),
        (Some(100), Some(800), None, 100),
        (Some(100), Some(50), Some(900), 900),
        (None, None, Some(9000), 1000),
        (None, Some(1), None, Limits::LEAST.pids),
    ] {
        let decided = people.map(pids).map(of_people).unwrap_or_default();
        let file = repository.map(|count| file(&toml(count))).unwrap_or_default();
        let limits = session.map(pids).unwrap_or_default();
        let asked = Asked { limits, isolation: None };
        let found = effective(&server(), &decided, &file, asked);
        assert_eq!(found.limits.pids, expected, "{people:?} {repository:?} {session:?}");
        assert_eq!(Limits { pids: 512, ..found.limits }, server().limits, "only pids changed");
    }
}

#[test]
fn a_wall_gets_stronger_only() {
    use Isolation::{Gvisor, Microvm, Namespaces};
    for (people, repository, session, expected) in [
        (None, None, None, Namespaces),
        (Some(Gvisor), None, None, Gvisor),
        (Some(Gvisor), Some("namespaces"), None, Gvisor),
        (Some(Gvisor), Some("microvm"), None, Microvm),
        (None, None, Some(Microvm), Microvm),
        (None, Some("microvm"), Some(Gvisor), Microvm),
    ] {
        let decided = RepositorySettings { isolation: people, ..RepositorySettings::default() };
        let text = repository.map(|level| format!("[sandbox]\nisolation = \"{level}\"\n"));
        let file = file(&text.unwrap_or_default());
        let asked = Asked { isolation: session, ..Asked::default() };
        let found = effective(&server(), &decided, &file, asked);
        assert_eq!(found.isolation, expected, "{people:?} {repository:?} {session:?}");
    }
    // The server's people may also decide for a weaker one, about one repository.
    let strong = ServerSettings { isolation: Gvisor, ..server() };
    let weaker = RepositorySettings { isolation: Some(Namespaces), ..Default::default() };
    let found = effective(&strong, &weaker, &Settings::default(), Asked::default());
    assert_eq!(found.isolation, Namespaces);
}

#[test]
fn the_base_is_the_servers_word_first_and_hints_add_up() {
    let toml = "[sandbox]\nbase = \"registry.example.com/debian:12\"\n\
                [agent]\nblocked_commands = [\"git push\", \"sudo\"]\n";
    let decided = RepositorySettings {
        blocked_commands: vec!["rm -rf /".to_owned(), "sudo".to_owned()],
        ..RepositorySettings::default()
    };
    let found = effective(&server(), &decided, &file(toml), Asked::default());
    assert_eq!(found.base.as_deref(), Some("registry.example.com/debian:12"));
    assert_eq!(found.blocked_commands, ["rm -rf /", "sudo", "git push"]);
    let decided = RepositorySettings { base: Some("host".to_owned()), ..decided };
    let found = effective(&server(), &decided, &file(toml), Asked::default());
    assert_eq!(found.base.as_deref(), Some("host"));
}

#[test]
fn wishes_that_cannot_be_are_refused_by_name() {
    let without = effective(
        &ServerSettings { isolation: Isolation::Gvisor, ..server() },
        &RepositorySettings::default(),
        &Settings::default(),
        Asked::default(),
    );
    let refusal = |asked| check(&server(), &without, asked).map_err(|refusal| refusal.to_string());
    let asked = |limits| Asked { limits, isolation: None };
    assert_eq!(refusal(asked(pids(1000))), Ok(()));
    assert_eq!(
        refusal(asked(pids(1001))).expect_err("too many"),
        "pids: 1001 processes were asked for and the maximum is 1000 processes; ask for less, or \
         have the server's maximum raised"
    );
    let memory = LimitRequest { memory_bytes: Some(1 << 20), ..LimitRequest::default() };
    assert_eq!(
        refusal(asked(memory)).expect_err("too little"),
        "memory: 1 MiB were asked for and no sandbox works with less than 64 MiB; ask for more"
    );
    let weak = Asked { isolation: Some(Isolation::Namespaces), ..Asked::default() };
    assert!(refusal(weak).expect_err("weaker").starts_with("isolation namespaces is weaker than"));
    let strong = Asked { isolation: Some(Isolation::Microvm), ..Asked::default() };
    assert_eq!(refusal(strong), Ok(()));
}
