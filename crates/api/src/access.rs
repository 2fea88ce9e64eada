//! Who may come in: the token of the local user, one-time sign-in codes, and browsers' sessions.
//!
//! Every secret is 32 random bytes, written as 64 hexadecimal digits, and compared in constant
//! time. All of them have one length, so a comparison tells nothing by its duration; none is kept
//! anywhere but in this process and, the token alone, in its file.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// How long a sign-in link works.
pub const LINK_LIFETIME: Duration = Duration::from_mins(15);
/// How long a browser stays signed in; a restart of the server ends it too.
pub const COOKIE_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// Links and browsers that are remembered; the oldest is forgotten first.
const REMEMBERED: usize = 100;

/// The secrets that open the door.
#[derive(Debug)]
pub struct Access {
    token: SecretString,
    codes: Mutex<Vec<Issued>>,
    cookies: Mutex<Vec<Issued>>,
}

#[derive(Debug)]
struct Issued {
    secret: SecretString,
    expires: Instant,
}

/// A new secret of 32 random bytes.
pub fn new_secret() -> Result<SecretString, getrandom::Error> {
    use std::fmt::Write;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    let digits = bytes.iter().fold(String::with_capacity(64), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    });
    Ok(digits.into())
}

/// Compares in a time that does not depend on where the texts differ.
fn same(secret: &SecretString, given: &str) -> bool {
    secret.expose_secret().as_bytes().ct_eq(given.as_bytes()).into()
}

impl Access {
    /// Access for whoever knows the token.
    pub fn new(token: SecretString) -> Self {
        Self { token, codes: Mutex::default(), cookies: Mutex::default() }
    }

    /// Whether this is the token.
    pub fn is_token(&self, given: &str) -> bool {
        same(&self.token, given)
    }

    /// A code that signs one browser in, once, within [`LINK_LIFETIME`].
    pub fn issue_code(&self, now: Instant) -> Result<SecretString, getrandom::Error> {
        issue(&mut lock(&self.codes), now + LINK_LIFETIME)
    }

    /// Takes a code and gives the secret of a browser's session for it.
    pub fn redeem(
        &self,
        code: &str,
        now: Instant,
    ) -> Result<Option<SecretString>, getrandom::Error> {
        let mut codes = lock(&self.codes);
        codes.retain(|issued| issued.expires > now);
        let found = codes.iter().position(|issued| same(&issued.secret, code));
        let Some(position) = found else { return Ok(None) };
        let cookie = issue(&mut lock(&self.cookies), now + COOKIE_LIFETIME)?;
        codes.remove(position);
        Ok(Some(cookie))
    }

    /// Whether this is the secret of a signed-in browser.
    pub fn is_cookie(&self, given: &str, now: Instant) -> bool {
        lock(&self.cookies).iter().any(|issued| issued.expires > now && same(&issued.secret, given))
    }
}

fn issue(issued: &mut Vec<Issued>, expires: Instant) -> Result<SecretString, getrandom::Error> {
    let secret = new_secret()?;
    if issued.len() >= REMEMBERED {
        issued.remove(0);
    }
    issued.push(Issued { secret: secret.clone(), expires });
    Ok(secret)
}

/// No operation leaves a list half-changed, so a panic elsewhere does not lock everybody out.
fn lock(issued: &Mutex<Vec<Issued>>) -> MutexGuard<'_, Vec<Issued>> {
    issued.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access::new(new_secret().expect("random numbers"))
    }

    #[test]
    fn a_code_works_once() {
        let (access, now) = (access(), Instant::now());
        let code = access.issue_code(now).expect("a code");
        let cookie = access.redeem(code.expose_secret(), now).expect("random").expect("signed in");
        assert!(access.is_cookie(cookie.expose_secret(), now));
        assert!(access.redeem(code.expose_secret(), now).expect("random").is_none());
        assert!(!access.is_cookie(code.expose_secret(), now), "a code is no cookie");
        assert!(!access.is_token(cookie.expose_secret()), "a cookie is no token");
    }

    #[test]
    fn codes_and_cookies_expire() {
        let (access, now) = (access(), Instant::now());
        let code = access.issue_code(now).expect("a code");
        let late = now + LINK_LIFETIME;
        assert!(access.redeem(code.expose_secret(), late).expect("random").is_none());
        let code = access.issue_code(now).expect("a code");
        let cookie = access.redeem(code.expose_secret(), now).expect("random").expect("signed in");
        assert!(!access.is_cookie(cookie.expose_secret(), now + COOKIE_LIFETIME));
    }

    #[test]
    fn nothing_else_opens() {
        let (access, now) = (access(), Instant::now());
        for wrong in ["", "0", &"0".repeat(64), "token"] {
            assert!(!access.is_token(wrong));
            assert!(!access.is_cookie(wrong, now));
            assert!(access.redeem(wrong, now).expect("random").is_none());
        }
        let debug = format!("{access:?}");
        assert!(!debug.contains(access.token.expose_secret()), "{debug}");
    }

    #[test]
    fn the_oldest_code_is_forgotten_first() {
        let (access, now) = (access(), Instant::now());
        let codes: Vec<_> =
            (0..=REMEMBERED).map(|_| access.issue_code(now).expect("code")).collect();
        assert!(access.redeem(codes[0].expose_secret(), now).expect("random").is_none());
        assert!(access.redeem(codes[1].expose_secret(), now).expect("random").is_some());
    }
}
