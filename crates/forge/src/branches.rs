//! Which of our branches follow the source after a fetch: a plan in pure data.

use std::collections::BTreeMap;

/// Branches by name, without `refs/heads/`. Names are bytes: Git allows more than UTF-8.
pub(crate) type Branches = BTreeMap<Vec<u8>, String>;

/// What is known when a plan is made.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Our branches now.
    pub(crate) ours: Branches,
    /// The source's branches as last taken over.
    pub(crate) adopted: Branches,
    /// The source's branches now.
    pub(crate) source: Branches,
    /// Our default branch, which is never deleted.
    pub(crate) default: Option<Vec<u8>>,
}

/// What should happen to one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Put ours where the source's is.
    Follow {
        /// Where the source's is.
        to: String,
        /// Where ours is; none if it is new.
        from: Option<String>,
    },
    /// Ours moved and the source's too: follow if nothing of ours is lost.
    FollowIfContained {
        /// Where the source's is.
        to: String,
        /// Where ours is.
        from: String,
    },
    /// It is gone at the source and nothing was added here.
    Delete {
        /// Where ours is.
        from: String,
    },
    /// Ours has what the source's has not; remember nothing new.
    Keep,
}

/// One step for each branch that is not already as it should be, deletions first.
///
/// Deletions come first because `a` must be gone before `a/b` can be made.
pub(crate) fn plan(known: &Known) -> Vec<(Vec<u8>, Step)> {
    let gone =
        known.adopted.iter().filter(|(name, _)| !known.source.contains_key(*name)).filter_map(
            |(name, adopted)| {
                let ours = known.ours.get(name)?;
                let stays = ours != adopted || known.default.as_ref() == Some(name);
                let step = if stays { Step::Keep } else { Step::Delete { from: ours.clone() } };
                Some((name.clone(), step))
            },
        );
    let present = known.source.iter().filter_map(|(name, source)| {
        Some((name.clone(), follow(known.ours.get(name), known.adopted.get(name), source)?))
    });
    gone.chain(present).collect()
}

fn follow(ours: Option<&String>, adopted: Option<&String>, source: &str) -> Option<Step> {
    let to = source.to_owned();
    match ours {
        Some(ours) if ours == source && adopted == Some(ours) => None,
        None => Some(Step::Follow { to, from: None }),
        Some(ours) if ours == source || adopted == Some(ours) => {
            Some(Step::Follow { to, from: Some(ours.clone()) })
        }
        // The source stands where we left it: only ours moved.
        Some(_) if adopted.is_some_and(|adopted| adopted == source) => Some(Step::Keep),
        Some(ours) => Some(Step::FollowIfContained { to, from: ours.clone() }),
    }
}

/// Whether a branch belongs to sessions, or would stand in the way of theirs.
pub(crate) fn is_sessions(name: &[u8]) -> bool {
    name == b"hangar" || name.starts_with(crate::SESSION_BRANCHES.as_bytes())
}

/// The branch a person most likely means when none is named.
pub(crate) fn likely_default(branches: &Branches, commit: Option<&str>) -> Option<Vec<u8>> {
    let fits = |tip: &str| commit.is_none_or(|commit| commit == tip);
    let usual = [b"main".as_slice(), b"master", b"trunk", b"develop"];
    usual
        .iter()
        .find(|name| branches.get(**name).is_some_and(|tip| fits(tip)))
        .map(|name| name.to_vec())
        .or_else(|| {
            let mut readable =
                branches.iter().filter(|(name, _)| std::str::from_utf8(name).is_ok());
            readable.find(|(_, tip)| fits(tip)).map(|(name, _)| name.clone())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branches(list: &[(&str, &str)]) -> Branches {
        list.iter().map(|(name, tip)| (name.as_bytes().to_vec(), (*tip).to_owned())).collect()
    }

    fn steps(
        ours: &[(&str, &str)],
        adopted: &[(&str, &str)],
        source: &[(&str, &str)],
    ) -> Vec<(String, Step)> {
        let known = Known {
            ours: branches(ours),
            adopted: branches(adopted),
            source: branches(source),
            default: Some(b"main".to_vec()),
        };
        let text = |(name, step)| (String::from_utf8(name).expect("names here are text"), step);
        plan(&known).into_iter().map(text).collect()
    }

    fn one(name: &str, step: Step) -> Vec<(String, Step)> {
        vec![(name.to_owned(), step)]
    }

    #[test]
    fn a_new_branch_is_taken_over() {
        let step = Step::Follow { to: "1".into(), from: None };
        assert_eq!(steps(&[], &[], &[("main", "1")]), one("main", step));
    }

    #[test]
    fn a_branch_nobody_moved_needs_nothing() {
        assert_eq!(steps(&[("x", "1")], &[("x", "1")], &[("x", "1")]), []);
    }

    #[test]
    fn a_rewritten_branch_is_followed() {
        let step = Step::Follow { to: "2".into(), from: Some("1".into()) };
        assert_eq!(steps(&[("x", "1")], &[("x", "1")], &[("x", "2")]), one("x", step));
    }

    #[test]
    fn a_merge_made_here_is_not_taken_back() {
        assert_eq!(steps(&[("x", "merge")], &[("x", "1")], &[("x", "1")]), one("x", Step::Keep));
        let step = Step::FollowIfContained { to: "2".into(), from: "merge".into() };
        assert_eq!(steps(&[("x", "merge")], &[("x", "1")], &[("x", "2")]), one("x", step));
    }

    #[test]
    fn a_deleted_branch_goes_unless_it_is_the_default_or_has_our_merges() {
        let step = Step::Delete { from: "1".into() };
        assert_eq!(steps(&[("x", "1")], &[("x", "1")], &[]), one("x", step));
        assert_eq!(steps(&[("x", "merge")], &[("x", "1")], &[]), one("x", Step::Keep));
        assert_eq!(steps(&[("main", "1")], &[("main", "1")], &[]), one("main", Step::Keep));
    }

    #[test]
    fn sessions_branches_are_never_in_a_plan() {
        assert_eq!(steps(&[("hangar/x", "1")], &[], &[]), []);
    }

    #[test]
    fn a_directory_makes_way_before_its_name_is_reused() {
        let planned = steps(&[("a", "1")], &[("a", "1")], &[("a/b", "1")]);
        assert!(matches!(planned[0].1, Step::Delete { .. }), "{planned:?}");
        assert!(matches!(planned[1].1, Step::Follow { .. }), "{planned:?}");
    }

    #[test]
    fn the_likely_default_is_a_usual_name_then_the_first_readable() {
        let known = branches(&[("apple", "1"), ("master", "2")]);
        assert_eq!(likely_default(&known, None), Some(b"master".to_vec()));
        assert_eq!(likely_default(&known, Some("1")), Some(b"apple".to_vec()));
        assert_eq!(likely_default(&known, Some("3")), None);
    }
}
