//! The files that threads may use (landlock(7)).

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules,
};

/// The newest version whose rights are known here; an older kernel enforces those that it has.
const VERSION: ABI = ABI::V5;

/// Lets the calling thread, and those that it starts, only read, and only below `directories`, for
/// good. Without `connecting`, it neither connects nor listens by TCP.
///
/// Returns whether the kernel enforces it: Linux 5.13 is the first that does.
pub(super) fn restrict(directories: &[PathBuf], connecting: bool) -> Result<bool, RulesetError> {
    let reading: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(VERSION))?;
    if !connecting {
        rules = rules.handle_access(AccessNet::from_all(VERSION))?;
    }
    let RestrictionStatus { ruleset, .. } = rules
        .create()?
        .add_rules(path_beneath_rules(directories, reading))?
        .restrict_self()?;
    Ok(ruleset != RulesetStatus::NotEnforced)
}
