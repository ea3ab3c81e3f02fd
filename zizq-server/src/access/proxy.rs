//! People whom a proxy in front of the server has asked who they are: it says so in a header of each request.
//!
//! Whoever can send that header can be anybody, so it counts only from the addresses of the proxy. The browser of the person adds
//! it to the requests of all pages, as it does with cookies, so it counts only where cookies do.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use protocol::access::{Grant, QueuePattern, Role};
use smol_str::SmolStr;

use super::session::is_from_own_page;
use super::{Access, Denied, Grants, Identity, Kind};

/// The longest name of a person, in bytes.
const MAX_NAME: usize = 255;

/// A proxy that is believed, and what the people may do whom it lets in.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The header with the name of the person.
    pub user: HeaderName,
    /// The header with the groups of the person.
    pub groups: Option<HeaderName>,
    /// Where it calls from.
    pub from: Vec<Network>,
    /// What people may do.
    pub roles: Vec<Assignment>,
}

/// Some addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = text.parse::<IpAddr>().map(IpNet::from);
        let network = one.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            format!("`{text}` is neither an address nor a network such as 10.0.0.0/24 or fd00::/64")
        })?;
        match network {
            network if network.prefix_len() == 0 => {
                Err("everybody could say that they are anybody; name the addresses of the proxy alone"
                    .to_owned())
            }
            IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => {
                Err(format!("write the IPv4 addresses in `{text}` as such, like 10.0.0.0/24"))
            }
            network => Ok(Self(network)),
        }
    }
}

/// Whom a role is given. The most exact counts, and comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    User(SmolStr),
    Group(SmolStr),
    Others,
}

/// How exactly somebody is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    ByName,
    ByGroup,
    AsOther,
}

/// A role for somebody: `alice=admin`, `group:ops=operator`, `*=viewer`; in some queues: `bob=operator:mails*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    whom: Whom,
    role: Role,
    grants: Vec<Grant>,
}

impl Assignment {
    fn fit(&self, user: &str, groups: &[&str]) -> Option<Fit> {
        match &self.whom {
            Whom::User(name) => (name == user).then_some(Fit::ByName),
            Whom::Group(name) => groups.contains(&name.as_str()).then_some(Fit::ByGroup),
            Whom::Others => Some(Fit::AsOther),
        }
    }
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is none of USER=ROLE, group:GROUP=ROLE and *=ROLE");
        let (whom, role) = text.rsplit_once('=').ok_or_else(wrong)?;
        let whom = match whom.strip_prefix("group:") {
            Some(group) => Whom::Group(group.into()),
            None if whom == "*" => Whom::Others,
            None => Whom::User(whom.into()),
        };
        if let Whom::User(name) | Whom::Group(name) = &whom
            && (name.is_empty() || name.trim() != name)
        {
            return Err(wrong());
        }
        let (role, queues) = match role.split_once(':') {
            None => (role, QueuePattern::ALL),
            Some((role, queues)) => (role, queues.parse()?),
        };
        let role: Role = role.parse()?;
        let grants = role.grants(&queues)?;
        Ok(Self { whom, role, grants })
    }
}

impl Proxy {
    /// Whether it calls from here.
    pub(super) fn is_at(&self, address: IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(address))
    }

    /// The person that a request of the proxy is made for; none if it says nothing.
    pub(super) fn person(&self, headers: &HeaderMap) -> Result<Option<Access>, Denied> {
        let Some(name) = only(headers, &self.user)? else { return Ok(None) };
        let wrong = |why| Err(Denied::Unclear(self.user.clone(), why));
        match name {
            "" => return wrong("it is empty: the proxy has let somebody in without saying whom"),
            name if name.len() > MAX_NAME => return wrong("the name has more than 255 bytes"),
            name if name.contains(',') => return wrong("it has a comma, so it may be two names"),
            _ => {}
        }
        if !is_from_own_page(headers) {
            return Err(Denied::NoPage(self.user.clone()));
        }
        let groups = self.groups.as_ref().map(|header| only(headers, header)).transpose()?.flatten();
        // Commas are usual; authentik writes bars.
        let groups: Vec<&str> = groups.unwrap_or_default().split([',', '|']).map(str::trim).collect();
        Ok(Some(Access::of_connection(self.identity(name, &groups))))
    }

    /// Somebody with the roles that fit best; without any if none fits.
    fn identity(&self, user: &str, groups: &[&str]) -> Identity {
        let fits = || self.roles.iter().filter_map(|one| Some((one.fit(user, groups)?, one)));
        let best = fits().map(|(fit, _)| fit).min();
        let given: Vec<&Assignment> =
            fits().filter(|(fit, _)| Some(*fit) == best).map(|(_, one)| one).collect();
        let grants: Vec<Grant> = given.iter().flat_map(|one| one.grants.iter().cloned()).collect();
        // Of several roles, the one that the others are a part of.
        let covers = |role: Role, other: Role| other.verbs().iter().all(|verb| role.verbs().contains(verb));
        let roles = || given.iter().map(|one| one.role);
        let role = roles().find(|role| roles().all(|other| covers(*role, other)));
        // No token, certificate or listener has an id like this.
        let id = smol_str::format_smolstr!("user={user}");
        Identity { role, ..Identity::new(Kind::Proxy, id, user.into(), Grants::of(&grants)) }
    }
}

/// The text of a header that is there at most once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Denied> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        let why = "the request has more than one, and only one can be the proxy's";
        return Err(Denied::Unclear(name.clone(), why));
    }
    let Some(value) = first else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).ok().map(str::trim);
    match text.filter(|text| !text.contains(char::is_control)) {
        Some(text) => Ok(Some(text)),
        None => Err(Denied::Unclear(name.clone(), "it is no text")),
    }
}

/// What the listener of a connection makes of the headers of a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Vouching {
    proxy: Arc<Proxy>,
    /// Whether the proxy is at the other end.
    is_believed: bool,
}

impl Vouching {
    /// `far`: the address of the other end; none if it has none, so that nobody knows who it is.
    pub(super) fn of(proxy: Arc<Proxy>, far: Option<IpAddr>) -> Self {
        let is_believed = far.is_some_and(|address| proxy.is_at(address));
        Self { proxy, is_believed }
    }

    /// Whether the request is made for a person, as the proxy says.
    pub(super) fn counts(&self, headers: &HeaderMap) -> bool {
        self.is_believed && headers.contains_key(&self.proxy.user)
    }

    pub(super) fn person(&self, headers: &HeaderMap) -> Result<Option<Access>, Denied> {
        match self.is_believed {
            true => self.proxy.person(headers),
            false if headers.contains_key(&self.proxy.user) => Err(Denied::NoProxy(self.proxy.user.clone())),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        for (network, within, beyond) in [
            ("10.0.0.7", "10.0.0.7", "10.0.0.8"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("127.0.0.1/32", "::ffff:127.0.0.1", "::1"),
            ("fd00::/64", "fd00::9", "fd00:0:0:1::9"),
            ("::1", "::1", "127.0.0.1"),
            ("::/1", "2001:db8::1", "::ffff:10.0.0.1"),
        ] {
            let read = network.parse::<Network>().unwrap();
            assert!(read.contains(at(within)) && !read.contains(at(beyond)), "{network}");
        }
        for (bad, says) in [
            ("", "neither an address nor a network"),
            ("proxy", "neither an address nor a network"),
            ("10.0.0.0/33", "neither an address nor a network"),
            ("10.0.0.0/", "neither an address nor a network"),
            ("10.0.0.7:80", "neither an address nor a network"),
            ("0.0.0.0/0", "that they are anybody"),
            ("::/0", "that they are anybody"),
            ("::ffff:10.0.0.0/104", "as such, like 10.0.0.0/24"),
            ("::ffff:10.0.0.7", "as such, like 10.0.0.0/24"),
        ] {
            let error = bad.parse::<Network>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn assignments_are_read() {
        let all = Role::Operator.grants(&QueuePattern::ALL).unwrap();
        let user = |name: &str| Whom::User(name.into());
        for (text, whom) in [
            ("alice=operator", user("alice")),
            ("Ada Lovelace=operator", user("Ada Lovelace")),
            ("a=b=operator", user("a=b")),
            ("ops:a=operator", user("ops:a")),
            ("group:role:ops=operator", Whom::Group("role:ops".into())),
            ("group:*=operator", Whom::Group("*".into())),
            ("*=operator", Whom::Others),
        ] {
            let read = Assignment { whom, role: Role::Operator, grants: all.clone() };
            assert_eq!(text.parse::<Assignment>(), Ok(read), "{text}");
        }
        let limited = "bob=viewer:mails*".parse::<Assignment>().unwrap();
        assert_eq!(limited.grants.iter().map(ToString::to_string).collect::<Vec<_>>(), ["read:mails*"]);
        for (bad, says) in [
            ("", "none of USER=ROLE"),
            ("alice", "none of USER=ROLE"),
            ("=admin", "none of USER=ROLE"),
            (" alice=admin", "none of USER=ROLE"),
            ("group:=admin", "none of USER=ROLE"),
            ("alice=root", "is no role"),
            ("alice=", "is no role"),
            ("alice=admin:mails", "about the server as a whole"),
            ("alice=viewer:", "must not be empty"),
        ] {
            let error = bad.parse::<Assignment>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
