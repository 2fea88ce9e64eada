//! Secrets from end to end: kept, delivered, struck out, and never lost with a key.

mod common;

use common::{World, events, finished, until};
use conductor::{Error, Hangar};
use protocol::Event;
use protocol::secret::SecretDelivery::{Placeholder, Plain};
use protocol::secret::{
    PutSecret, SecretDelivery, SecretName, SecretPhase, SecretScope, SecretStored, SecretValue,
};

const VALUE: &str = "s3cr3t-value-of-many-letters";

fn name(text: &str) -> SecretName {
    text.parse().expect("a name")
}

async fn set(
    world: &World,
    hangar: &Hangar,
    place: (SecretScope, SecretPhase, &str),
    value: &str,
    delivery: SecretDelivery,
) -> Result<SecretStored, Error> {
    let hosts = match delivery {
        SecretDelivery::Plain => Vec::new(),
        SecretDelivery::Placeholder => vec!["a.example".parse().expect("a host")],
    };
    let request = PutSecret { value: SecretValue::new(value.to_owned()), delivery, hosts };
    hangar.put_secret(&world.user, place.0, place.1, name(place.2), request).await
}

#[tokio::test]
async fn sandboxes_get_the_narrowest_and_only_what_is_theirs() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let here = SecretScope::Repository { repository: repository.clone() };
    let team = SecretScope::Team { team: "others".to_owned() };
    let (run, build) = (SecretPhase::Run, SecretPhase::Build);
    for (scope, phase, name, value, delivery) in [
        (SecretScope::Server, run, "A", "value of the server", Plain),
        (here.clone(), run, "A", VALUE, Plain),
        (team, run, "B", "value of another team", Plain),
        (SecretScope::Server, build, "C", "value for builds", Plain),
        (SecretScope::Server, run, "D", "value behind a placeholder", Placeholder),
    ] {
        set(&world, &hangar, (scope, phase, name), value, delivery).await.expect("set");
    }
    let id = world.session(&hangar, &repository, "Say hello").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, finished).await;
    let view = hangar.session(&world.user, id).await.expect("there");
    let sandbox = view.sandbox.expect("a sandbox");
    assert_eq!(sandbox.plain_secrets, [name("A")]);
    let given = world.backend.world(sandbox.id).expect("it runs").environment().variables;
    assert_eq!(given.keys().collect::<Vec<_>>(), ["A", "D"]);
    assert_eq!(given["A"].expose(), VALUE);
    assert!(given["D"].expose().starts_with("hangar_placeholder_"), "no value");
    assert_eq!(hangar.secrets(&world.user, Some(&here)).len(), 1);
    assert_eq!(hangar.secrets(&world.user, None).len(), 5);
}

#[tokio::test]
async fn values_are_struck_out_of_all_that_people_see() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let place = (SecretScope::Server, SecretPhase::Build, "TOKEN");
    set(&world, &hangar, place, VALUE, SecretDelivery::Placeholder).await.expect("set");
    // A person's prompt is written to a file by this agent: the agent never gets the value.
    let asked = format!("Write {VALUE} down");
    let id = world.session(&hangar, &repository, &asked).await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, finished).await;
    let view = hangar.session(&world.user, id).await.expect("there");
    let told = events(&hangar, &world.user, id).await;
    let all = serde_json::to_string(&(&told, &view)).expect("JSON");
    assert!(!all.contains(VALUE) && all.contains("[secret TOKEN]"), "{all}");
    assert!(!view.branch.contains("s3cr3t"), "{}", view.branch);
    let committed = |event: &Event| matches!(event, Event::Committed { subject, .. } if subject == "Write [secret TOKEN] down");
    assert!(told.iter().any(|one| committed(&one.event)), "{told:#?}");
}

#[tokio::test]
async fn a_change_of_keys_loses_nothing_and_a_missing_key_is_named() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let place = (SecretScope::Server, SecretPhase::Run, "TOKEN");
    set(&world, &hangar, place, VALUE, SecretDelivery::Plain).await.expect("set");
    let keys = world.directory.path().join("secret-keys");
    let before = std::fs::read(&keys).expect("the keys");
    let rotated = hangar.rotate_secrets(&world.user).await.expect("rotated");
    assert_eq!((rotated.secrets, rotated.unreadable.len()), (1, 0));
    assert_eq!(hangar.secrets(&world.user, None)[0].key, rotated.key);
    let after = std::fs::read(&keys).expect("the keys");
    assert_ne!(before, after);
    let lines = |text: &[u8]| String::from_utf8_lossy(text).lines().count();
    assert_eq!(lines(&before), lines(&after), "the old key is forgotten");
    let sealed = world.index.secrets().await.expect("rows")[0].sealed.clone();
    assert!(!sealed.windows(6).any(|six| six == &VALUE.as_bytes()[..6]));

    // The old keys again, as from an old copy: the secret stays, its use says what is missing.
    drop(hangar);
    std::fs::write(&keys, &before).expect("written");
    let hangar = world.open().await;
    assert_eq!(world.index.secrets().await.expect("rows")[0].sealed, sealed, "untouched");
    let id = world.session(&hangar, &repository, "Say hello").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    let missing = |event: &Event| {
        matches!(event, Event::SandboxFailed { reason, .. }
            if reason.contains("TOKEN") && reason.contains(&rotated.key))
    };
    until(&mut subscription, missing).await;
    let again = hangar.rotate_secrets(&world.user).await.expect("rotated");
    assert_eq!((again.secrets, again.unreadable.len()), (0, 1));

    // With the right keys in place everything is there.
    drop(hangar);
    std::fs::write(&keys, &after).expect("written");
    let hangar = world.open().await;
    let id = world.session(&hangar, &repository, "Say hello").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, finished).await;
    let view = hangar.session(&world.user, id).await.expect("there");
    let given = world.backend.world(view.sandbox.expect("one").id).expect("it runs").environment();
    assert_eq!(given.variables["TOKEN"].expose(), VALUE);
}
