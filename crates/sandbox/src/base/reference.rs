//! How people name a base.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::Error;

/// A base image's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// The host's own `/usr`.
    Host,
    /// An image of a registry.
    Registry(oci_client::Reference),
    /// A directory in the OCI image layout: `oci:/directory[:tag]`.
    Layout {
        /// The directory.
        path: PathBuf,
        /// Which of its images; needed where there are several.
        tag: Option<String>,
    },
    /// What `docker save` writes, or an OCI layout in a tar archive: `archive:/file.tar[:tag]`.
    Archive {
        /// The file.
        path: PathBuf,
        /// Which of its images; needed where there are several.
        tag: Option<String>,
    },
}

impl Reference {
    /// Whether it names files of this machine, which is for its operator to say only.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Layout { .. } | Self::Archive { .. })
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Reference { text: text.to_owned(), why: why.to_owned() };
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = place(rest).ok_or_else(|| wrong("the path must be absolute"))?;
            return Ok(Self::Layout { path, tag });
        }
        if let Some(rest) = text.strip_prefix("archive:") {
            let (path, tag) = place(rest).ok_or_else(|| wrong("the path must be absolute"))?;
            return Ok(Self::Archive { path, tag });
        }
        let parsed: oci_client::Reference =
            text.parse().map_err(|error: oci_client::ParseError| wrong(&error.to_string()))?;
        match parsed.digest() {
            Some(digest) if !digest.starts_with("sha256:") => {
                Err(wrong("only sha256 digests are understood"))
            }
            _ => Ok(Self::Registry(parsed)),
        }
    }
}

/// `/path:tag`; a colon within the path's directories belongs to the path.
fn place(text: &str) -> Option<(PathBuf, Option<String>)> {
    if !text.starts_with('/') {
        return None;
    }
    let last = text.rfind('/').unwrap_or(0);
    Some(match text[last..].split_once(':') {
        Some((name, tag)) if !tag.is_empty() => {
            (PathBuf::from(&text[..last + name.len()]), Some(tag.to_owned()))
        }
        _ => (PathBuf::from(text.trim_end_matches(':')), None),
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, tag) = match self {
            Self::Host => return formatter.write_str("host"),
            Self::Registry(reference) => return formatter.write_str(&reference.whole()),
            Self::Layout { path, tag } => ("oci", path, tag),
            Self::Archive { path, tag } => ("archive", path, tag),
        };
        write!(formatter, "{scheme}:{}", path.display())?;
        tag.as_ref().map_or(Ok(()), |tag| write!(formatter, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| error.to_string(), |it| it.to_string())
    }

    #[test]
    fn each_form_is_read() {
        assert_eq!("host".parse::<Reference>().expect("known"), Reference::Host);
        assert_eq!(shown("oci:/a/b"), "oci:/a/b");
        assert_eq!(shown("oci:/a:1/b:latest"), "oci:/a:1/b:latest");
        assert_eq!(shown("archive:/tmp/x.tar"), "archive:/tmp/x.tar");
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            shown(&format!("registry:5000/a/b:tag@{digest}")),
            format!("registry:5000/a/b:tag@{digest}")
        );
        assert_eq!(shown("registry.example/a"), "registry.example/a:latest");
    }

    #[test]
    fn what_names_nothing_says_why() {
        for text in ["oci:relative", "archive:", "", "UPPER/Case", "a b", "x@sha512:00"] {
            assert!(shown(text).contains("names no base image"), "{text}: {}", shown(text));
        }
        assert!("oci:/a".parse::<Reference>().expect("known").is_local());
    }
}
