//! What a prompt says, from the blocks it comes in.

use agent_client_protocol::v1::schema::{ContentBlock, EmbeddedResourceResource};

/// Why a prompt cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Nothing but white space.
    #[error("the prompt is empty")]
    Empty,
    /// A block this agent has not offered to take.
    #[error("this agent takes text, links and embedded text only")]
    Unsupported,
}

/// The text of a prompt.
pub(super) fn text(blocks: Vec<ContentBlock>) -> Result<String, Error> {
    let texts: Vec<_> = blocks
        .into_iter()
        .map(|block| match block {
            ContentBlock::Text(text) => Ok(text.text),
            ContentBlock::ResourceLink(link) => Ok(format!("[{}]({})", link.name, link.uri)),
            ContentBlock::Resource(resource) => match resource.resource {
                EmbeddedResourceResource::TextResourceContents(text) => {
                    Ok(format!("{}:\n```\n{}\n```", text.uri, text.text))
                }
                _ => Err(Error::Unsupported),
            },
            _ => Err(Error::Unsupported),
        })
        .collect::<Result<_, _>>()?;
    let text = texts.join("\n");
    if text.trim().is_empty() { Err(Error::Empty) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use agent_client_protocol::v1::schema::{ImageContent, ResourceLink};

    use super::*;

    #[test]
    fn text_and_links_become_one_text() {
        let link = ContentBlock::ResourceLink(ResourceLink::new("a.rs", "file:///a.rs"));
        let blocks = vec!["Look at".into(), link];
        assert_eq!(text(blocks).expect("readable"), "Look at\n[a.rs](file:///a.rs)");
    }

    #[test]
    fn nothing_and_pictures_are_refused() {
        assert_eq!(text(vec![]), Err(Error::Empty));
        assert_eq!(text(vec![" \n".into()]), Err(Error::Empty));
        let picture = ContentBlock::Image(ImageContent::new("", "image/png"));
        assert_eq!(text(vec![picture]), Err(Error::Unsupported));
    }
}
