//! Looks for secrets in what is about to be committed, while it is still easy to take out again.
//!
//! Only where the sandbox holds values as they are: nothing else can get there by accident. What is
//! not found here, because the changes are large or binary, the forge finds when it is pushed.

use protocol::SandboxId;
use protocol::session::SessionView;

use crate::redaction::Redactor;
use crate::shared::Shared;

/// Bytes of changes that are looked through.
const MOST: usize = 64 * 1024 * 1024;

/// Why the changes must not be committed, if so.
pub(super) async fn find(
    shared: &Shared,
    view: &SessionView,
    sandbox: SandboxId,
) -> Option<String> {
    let holds_values = view.sandbox.as_ref().is_some_and(|one| !one.plain_secrets.is_empty());
    if !holds_values {
        return None;
    }
    let patch = shared.client(sandbox).diff(&view.base_commit, MOST).await;
    let patch = patch.inspect_err(|error| {
        let error = crate::chain(error);
        tracing::info!(%sandbox, error, "changes are looked through when they are pushed");
    });
    let (file, secret) = added(&shared.secrets.redaction().current(), &patch.ok()?)?;
    Some(format!(
        "{file} contains the secret {secret}: take it out, then the next prompt's commit carries \
         the rest"
    ))
}

/// The first file whose added lines hold a value, and which one.
fn added(values: &Redactor, patch: &[u8]) -> Option<(String, String)> {
    let (mut file, mut lines) = (&b""[..], Vec::new());
    let found = |file: &[u8], lines: &[u8]| {
        let secret = values.find(lines).or_else(|| values.find(file))?;
        let name = values.text(&String::from_utf8_lossy(file)).into_owned();
        Some((name, secret.to_owned()))
    };
    let mut in_head = true;
    for line in patch.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"diff --git ") {
            if let Some(leak) = found(file, &lines) {
                return Some(leak);
            }
            (file, in_head) = (&b""[..], true);
            lines.clear();
        } else if line.starts_with(b"@@") {
            in_head = false;
        } else if in_head {
            if let Some(name) = line.strip_prefix(b"+++ b/") {
                file = name.strip_suffix(b"\n").unwrap_or(name);
            }
        } else if let Some(text) = line.strip_prefix(b"+") {
            lines.extend_from_slice(text);
        }
    }
    found(file, &lines)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::redaction::Named;

    #[test]
    fn a_value_is_found_where_it_is_added_and_not_where_it_goes() {
        let value = SecretString::from("s3cr3t-value");
        let values = Redactor::new(&[Named { name: "TOKEN".to_owned(), value }]);
        let patch = |file: &str, line: &str| {
            format!(
                "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n+fine\n\
                     diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n{line}\n"
            )
        };
        let leak = added(&values, patch("deep/key", "+the s3cr3t-value is").as_bytes());
        assert_eq!(leak, Some(("deep/key".to_owned(), "TOKEN".to_owned())));
        for gone in ["-s3cr3t-value", " s3cr3t-value"] {
            assert_eq!(added(&values, patch("deep/key", gone).as_bytes()), None, "{gone}");
        }
        let named = added(&values, patch("s3cr3t-value", "+x").as_bytes());
        assert_eq!(named, Some(("[secret TOKEN]".to_owned(), "TOKEN".to_owned())));
    }
}
