//! What needs itself: with everything lost at once, what comes back, and what waits for itself for ever?
//!
//! A policy says what must be back before what. Names of VMs, and two places: `vault` (this vault's storage, or the machine
//! with the identities), which every VM needs, and `elsewhere` (where secrets are kept that the vault does not hold). A name
//! that is neither declared nor a VM's is outside of the disaster.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::policy::Need;

/// The place that every VM needs.
const VAULT: &str = "vault";
/// The place with secrets that the vault does not hold.
const ELSEWHERE: &str = "elsewhere";

/// A VM that may need itself.
pub(crate) struct Node<'a> {
    pub(crate) vm_id: &'a str,
    pub(crate) name: &'a str,
    /// Whether a secret of it, that the vault does not hold, may be elsewhere.
    pub(crate) needs_elsewhere: bool,
}

/// VMs that never come back, by id, each with the circle or the chain to it.
pub(crate) fn circles(vms: &[Node<'_>], depends_on: &BTreeMap<String, Vec<Need>>) -> HashMap<String, String> {
    if depends_on.is_empty() {
        return HashMap::new();
    }
    let graph = Graph::new(vms, depends_on);
    let back = graph.back();
    vms.iter()
        .filter(|vm| !back.contains(vm.vm_id))
        .map(|vm| (vm.vm_id.to_owned(), graph.chain(vm.vm_id, &back)))
        .collect()
}

/// Everything that is lost, and what each needs: all of the outer list, any of the inner.
struct Graph<'a> {
    needs: BTreeMap<String, Vec<Vec<String>>>,
    names: HashMap<&'a str, &'a str>,
}

impl<'a> Graph<'a> {
    fn new(vms: &[Node<'a>], depends_on: &BTreeMap<String, Vec<Need>>) -> Self {
        let mut by_name: HashMap<String, Vec<String>> = HashMap::new();
        for vm in vms {
            for name in [vm.name, vm.vm_id] {
                by_name.entry(name.to_lowercase()).or_default().push(vm.vm_id.to_owned());
            }
        }
        // A VM by its id; several of one name are any of them.
        let resolve = |name: &String| {
            let plain = name.trim_matches(['{', '}']).to_lowercase();
            by_name.get(&plain).cloned().unwrap_or_else(|| vec![plain])
        };
        let mut needs: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
        for vm in vms {
            let mut own = vec![vec![VAULT.to_owned()]];
            if vm.needs_elsewhere {
                own.push(vec![ELSEWHERE.to_owned()]);
            }
            needs.insert(vm.vm_id.to_owned(), own);
        }
        for (name, list) in depends_on {
            let list = list.iter().map(|need| match need {
                Need::One(one) => resolve(one),
                Need::AnyOf(any) => any.iter().flat_map(resolve).collect(),
            });
            let list: Vec<Vec<String>> = list.collect();
            for node in resolve(name) {
                needs.entry(node).or_default().extend(list.iter().cloned());
            }
        }
        Self { needs, names: vms.iter().map(|vm| (vm.vm_id, vm.name)).collect() }
    }

    fn is_met(&self, any: &[String], back: &BTreeSet<String>) -> bool {
        any.iter().any(|one| back.contains(one) || !self.needs.contains_key(one))
    }

    /// What comes back, one after the other.
    fn back(&self) -> BTreeSet<String> {
        let mut back = BTreeSet::new();
        loop {
            let more: Vec<String> = self
                .needs
                .iter()
                .filter(|(node, all)| !back.contains(*node) && all.iter().all(|any| self.is_met(any, &back)))
                .map(|(node, _)| node.clone())
                .collect();
            if more.is_empty() {
                return back;
            }
            back.extend(more);
        }
    }

    /// From a node along what is not met, until a node comes again.
    fn chain(&self, from: &str, back: &BTreeSet<String>) -> String {
        let mut path = vec![from.to_owned()];
        while let Some(next) = path.last().and_then(|last| self.unmet(last, back)) {
            let is_again = path.contains(&next);
            path.push(next);
            if is_again {
                break;
            }
        }
        let name = |node: &String| match self.names.get(node.as_str()) {
            Some(name) => (*name).to_owned(),
            None if node == VAULT => "the vault".to_owned(),
            None if node == ELSEWHERE => "the secrets kept elsewhere".to_owned(),
            None => node.clone(),
        };
        path.iter().map(name).collect::<Vec<_>>().join(" needs ")
    }

    fn unmet(&self, node: &str, back: &BTreeSet<String>) -> Option<String> {
        let unmet = self.needs.get(node)?.iter().find(|any| !self.is_met(any, back))?;
        unmet.first().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<'a>(name: &'a str, needs_elsewhere: bool) -> Node<'a> {
        Node { vm_id: name, name, needs_elsewhere }
    }

    fn found(vms: &[Node<'_>], depends_on: &str) -> Vec<(String, String)> {
        #[derive(serde::Deserialize)]
        struct Lines {
            depends_on: BTreeMap<String, Vec<Need>>,
        }
        let lines: Lines = toml::from_str(&format!("[depends_on]\n{depends_on}")).unwrap();
        let mut found: Vec<_> = circles(vms, &lines.depends_on).into_iter().collect();
        found.sort();
        found
    }

    #[test]
    fn only_what_needs_itself_is_a_circle() {
        let vms = [node("dc1", false), node("dc2", false), node("nas", false), node("web", true)];
        assert_eq!(circles(&vms, &BTreeMap::new()), HashMap::new());
        assert_eq!(found(&vms, "web = [\"dc1\"]"), [], "a chain is no circle");
        // The vault on one of the VMs: nothing comes back.
        let all = found(&vms, "vault = [\"nas\"]");
        assert_eq!(all.len(), 4);
        assert_eq!(all[2], ("nas".to_owned(), "nas needs the vault needs nas".to_owned()));
        // ... or on any of two, one of which is outside.
        assert_eq!(found(&vms, "vault = [[\"nas\", \"tape in the safe\"]]"), []);
        // Secrets in a directory that runs on VMs which need nothing of it.
        assert_eq!(found(&vms, "elsewhere = [[\"dc1\", \"dc2\"]]"), []);
        // Controllers whose own secrets are in the directory alone.
        let vms = [node("dc1", true), node("dc2", true), node("web", true), node("nas", false)];
        let circle = found(&vms, "elsewhere = [[\"DC1\", \"dc2\"]]");
        let names: Vec<&str> = circle.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["dc1", "dc2", "web"]);
        assert_eq!(
            circle[2].1,
            "web needs the secrets kept elsewhere needs dc1 needs the secrets kept elsewhere"
        );
    }

    #[test]
    fn the_needs_of_a_vm_are_all_needed() {
        let vms = [node("a", false), node("b", false), node("c", false)];
        let circle = found(&vms, "a = [\"b\", \"c\"]\nb = [\"a\"]");
        let names: Vec<&str> = circle.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
