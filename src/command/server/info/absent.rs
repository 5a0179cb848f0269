//! What INFO says of subsystems that are not there yet: what a server says that does without them.
//!
//! Nothing else knows of them, so their sections stand here. Whoever builds the subsystem writes its section there, and takes it from here.

use super::Overview;
use crate::base::section::Section;

/// There are none, and each would have a line.
pub(super) fn modules(_: &Overview, _: &mut Section) {}

/// This node stands alone.
pub(super) fn cluster(_: &Overview, out: &mut Section) {
    out.field("cluster_enabled", 0);
}
