//! Names of users, from `/etc/passwd`: no network, no name service, read once. Who came later, or is only
//! in a directory server, is named by number.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Users that are known by name.
const MAX_USERS: usize = 10_000;

/// The name of a user, where it is known.
pub(super) fn name_of(uid: u32) -> Option<&'static str> {
    static USERS: OnceLock<HashMap<u32, String>> = OnceLock::new();
    let users = USERS.get_or_init(|| {
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        parse(&text)
    });
    users.get(&uid).map(String::as_str)
}

/// The first name of each number.
fn parse(text: &str) -> HashMap<u32, String> {
    let mut users = HashMap::new();
    for line in text.lines().take(MAX_USERS) {
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let Ok(uid) = uid.parse()
            && !name.is_empty()
        {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_name_of_a_number_counts() {
        let users = super::parse("root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n#no\nx:y\n");
        assert_eq!(users.len(), 1);
        assert_eq!(users[&0], "root");
    }
}
