//! Who a request belongs to, where callers share something that runs out.

use std::net::{IpAddr, Ipv6Addr};

/// A caller of the server. Those behind one address are one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// An IPv4 address, or the /64 network of an IPv6 address: whoever has one address there has all of them.
    At(IpAddr),
    /// Somebody on the machine of the server, by its control socket.
    Local,
    /// The server itself, on behalf of a cron entry.
    Server,
}

impl Caller {
    /// The caller at the other end of a connection.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self::At(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_callers() {
        let at = |text: &str| Caller::at(text.parse().unwrap());
        for (one, other, same) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            assert_eq!(at(one) == at(other), same, "{one} and {other}");
        }
    }
}
