//! What a branch changes since it left its base, measured and as a patch.

use std::path::Path;

use protocol::session::DiffStat;

use crate::git::Invocation;
use crate::{Error, Local};

/// Bytes of the longest patch that is given out whole.
const PATCH_BYTES: usize = 4 * 1024 * 1024;

/// The size of a change, and the commit it is measured from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) merge_base: String,
    pub(super) stat: DiffStat,
}

impl Local {
    /// Measures what `tip` adds to `base`; none if that is no commit at all.
    pub(super) async fn measure(
        &self,
        repository: &Path,
        base: &str,
        tip: &str,
    ) -> Result<Option<Measured>, Error> {
        let merge_base = self.merge_base(repository, base, tip).await?;
        if merge_base == tip {
            return Ok(None);
        }
        let numbers = self
            .comparison(repository, "measure the change")
            .args(["--numstat", "-z", &merge_base, tip, "--"])
            .output()
            .await?;
        let stat = count(&numbers);
        Ok(Some(Measured { merge_base, stat }))
    }

    /// Histories that never met are compared from nothing: all of the branch is new.
    async fn merge_base(&self, repository: &Path, base: &str, tip: &str) -> Result<String, Error> {
        let doing = format!("find where {tip} left {base}");
        let asking = self.git_at(repository, doing.clone());
        let found = asking.args(["merge-base", base, tip]).finish().await?;
        match found.code {
            Some(0) => Ok(String::from_utf8_lossy(&found.output).trim().to_owned()),
            Some(1) => {
                let asking = self.git_at(repository, doing);
                asking.args(["hash-object", "-t", "tree", "--stdin"]).text().await
            }
            _ => Err(found.failure(doing)),
        }
    }

    pub(super) async fn patch(
        &self,
        repository: &Path,
        merge_base: &str,
        commit: &str,
    ) -> Result<String, Error> {
        let doing = "write the patch";
        let found = self
            .comparison(repository, doing)
            .args(["--patch", merge_base, commit, "--"])
            .output_limit(PATCH_BYTES)
            .finish()
            .await?;
        if found.cut {
            return Ok(cut(&found.output, merge_base, commit));
        }
        match found.code {
            Some(0) => Ok(String::from_utf8_lossy(&found.output).into_owned()),
            _ => Err(found.failure(doing.to_owned())),
        }
    }

    /// A comparison of two commits that runs no program a repository names.
    fn comparison(&self, repository: &Path, doing: &str) -> Invocation {
        self.git_at(repository, doing.to_owned()).args([
            "diff",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            "--find-renames",
            "--submodule=short",
        ])
    }
}

fn cut(patch: &[u8], merge_base: &str, commit: &str) -> String {
    let end = patch.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(&patch[..end]);
    format!(
        "{text}[cut after {end} bytes; `git diff {merge_base} {commit}` in a clone shows all]\n"
    )
}

/// Adds up `git diff --numstat -z`: `added TAB removed TAB path NUL`, where a rename has an empty
/// path and its two names after it. Binary files have `-` for both numbers.
fn count(numbers: &[u8]) -> DiffStat {
    let mut stat = DiffStat::default();
    let mut fields = numbers.split(|byte| *byte == 0);
    while let Some(field) = fields.next().filter(|field| !field.is_empty()) {
        let mut parts = field.splitn(3, |byte| *byte == b'\t');
        let mut lines = || {
            let text = parts.next().and_then(|part| std::str::from_utf8(part).ok());
            text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0)
        };
        stat.added = stat.added.saturating_add(lines());
        stat.removed = stat.removed.saturating_add(lines());
        stat.files = stat.files.saturating_add(1);
        if parts.next().is_none_or(<[u8]>::is_empty) {
            fields.next();
            fields.next();
        }
    }
    stat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_text_binary_renamed_and_oddly_named_files_add_up() {
        let numbers = b"3\t1\ta\0-\t-\tbinary\x000\t2\t\0old\nname\0new\tname\x005\t0\t-\t\xff\0";
        assert_eq!(count(numbers), DiffStat { files: 4, added: 8, removed: 3 });
        assert_eq!(count(b""), DiffStat::default());
    }

    #[test]
    fn a_patch_is_cut_between_lines_and_says_so() {
        let text = cut(b"one\ntwo\nthr", "aa", "bb");
        assert!(text.starts_with("one\ntwo\n[cut after 8 bytes;"), "{text}");
    }
}
