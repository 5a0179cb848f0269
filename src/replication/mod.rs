//! Masters and replicas: how the data set of one server becomes, and stays, that of another.
//!
//! | module | owns |
//! |---|---|
//! | [`replica`] | this node as a replica: the link to its master |
//! | [`role`] | changes between master and replica |

pub mod replica;
pub mod role;
