//! What must be true when all units of a simulation have ended, and of the slots at any time.

use super::{Content, Parcel, Simulation};
use shardis::shard::{ConnRef, Loan, Message, Shard, ShardId};
use std::collections::BTreeMap;

impl Simulation {
    /// At any time, every slot is on one shard or in one message.
    pub fn check_slots_exist_once(&self) -> Result<(), String> {
        let in_messages = self.links.values().flatten().filter_map(|parcel| match parcel {
            Parcel::Message(Message::Grant { loan, .. } | Message::Return { loan, .. }) => Some(loan),
            _ => None,
        });
        let mut slots: Vec<u16> = in_messages.flat_map(Loan::slots).collect();
        slots.extend(self.shards.iter().flat_map(Shard::slots_here));
        slots.sort_unstable();
        match slots.iter().copied().eq(0..self.slot_count) {
            true => Ok(()),
            false => Err(format!("a slot is lost or there twice: {slots:?}")),
        }
    }

    pub fn check(&mut self) -> Result<(), String> {
        for (id, history) in self.histories.iter().enumerate() {
            if history.finished_at.is_none() {
                return Err(format!("unit {id} never ended"));
            }
        }
        if let Some(shard) = self.shards.iter().find(|shard| !shard.is_idle()) {
            return Err(format!("{:?} still waits for something", shard.id()));
        }
        let contents = self.check_places()?;
        let mut order = Order::new(self.histories.len());
        self.check_slots(&contents, &mut order)?;
        self.order_in_real_time(&mut order);
        self.order_connections(&mut order);
        order.check()?;
        Ok(())
    }

    /// Every slot is in exactly one place, the one where it belongs.
    fn check_places(&self) -> Result<Vec<Content>, String> {
        let mut contents = vec![None; self.slot_count as usize];
        for shard in &self.shards {
            for (slot, content) in shard.places().ok_or("a shard's places are away")?.iter() {
                let previous = contents[slot as usize].replace(content.clone());
                if shard.owner(slot) != shard.id() || previous.is_some() {
                    return Err(format!("slot {slot} is where it does not belong"));
                }
            }
        }
        contents
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or("a slot was lost".to_string())
    }

    /// What the units have seen of each slot agrees with one order of its writers.
    fn check_slots(&self, contents: &[Content], order: &mut Order) -> Result<(), String> {
        for (id, history) in self.histories.iter().enumerate() {
            for access in &history.seen {
                let writers = &contents[access.slot as usize].writers;
                if access.is_write && writers.get(access.version) != Some(&(id as u32)) {
                    return Err(format!(
                        "what unit {id} wrote to slot {} is lost: {writers:?}",
                        access.slot
                    ));
                }
                if access.version > writers.len() {
                    return Err(format!(
                        "unit {id} saw a version of slot {} that never was",
                        access.slot
                    ));
                }
                if let Some(before) = access.version.checked_sub(1) {
                    order.before(writers[before] as usize, id);
                }
                if let Some(&after) = writers.get(access.version) {
                    order.before(id, after as usize);
                }
            }
        }
        let writes = self
            .histories
            .iter()
            .flat_map(|history| &history.seen)
            .filter(|access| access.is_write)
            .count();
        let kept: usize = contents.iter().map(|content| content.writers.len()).sum();
        if writes != kept {
            return Err(format!("{writes} writes were made, and {kept} are there"));
        }
        Ok(())
    }

    /// A unit that ended before another was issued comes before it.
    fn order_in_real_time(&self, order: &mut Order) {
        // A chain of moments stands for all pairs.
        let mut ends: Vec<(usize, usize)> = self
            .histories
            .iter()
            .enumerate()
            .map(|(id, it)| (it.finished_at.expect("checked"), id))
            .collect();
        ends.sort_unstable();
        let moments: Vec<usize> = ends.iter().map(|_| order.add()).collect();
        for (at, (_, id)) in ends.iter().enumerate() {
            order.before(*id, moments[at]);
            if at > 0 {
                order.before(moments[at - 1], moments[at]);
            }
        }
        for (id, history) in self.histories.iter().enumerate() {
            let ended_count = ends.partition_point(|(finished_at, _)| *finished_at < history.issued_at);
            if ended_count > 0 {
                order.before(moments[ended_count - 1], id);
            }
        }
    }

    /// Units that one connection submitted to one shard take effect in their order.
    fn order_connections(&self, order: &mut Order) {
        let mut last: BTreeMap<(ConnRef, ShardId), usize> = BTreeMap::new();
        for (id, history) in self.histories.iter().enumerate() {
            if let Some(target) = history.target
                && let Some(previous) = last.insert((history.origin, target), id)
            {
                order.before(previous, id);
            }
        }
    }
}

/// Who must come before whom.
struct Order {
    after: Vec<Vec<usize>>,
}

impl Order {
    fn new(count: usize) -> Self {
        Order {
            after: vec![Vec::new(); count],
        }
    }

    fn add(&mut self) -> usize {
        self.after.push(Vec::new());
        self.after.len() - 1
    }

    fn before(&mut self, first: usize, second: usize) {
        if first != second {
            self.after[first].push(second);
        }
    }

    /// There is an order if one can always find somebody before whom nobody must come.
    fn check(&self) -> Result<(), String> {
        let mut before_count = vec![0; self.after.len()];
        for &second in self.after.iter().flatten() {
            before_count[second] += 1;
        }
        let mut free: Vec<usize> = (0..self.after.len()).filter(|&at| before_count[at] == 0).collect();
        let mut ordered_count = 0;
        while let Some(first) = free.pop() {
            ordered_count += 1;
            for &second in &self.after[first] {
                before_count[second] -= 1;
                if before_count[second] == 0 {
                    free.push(second);
                }
            }
        }
        match ordered_count == self.after.len() {
            true => Ok(()),
            false => Err(format!(
                "{} units and moments have no order",
                self.after.len() - ordered_count
            )),
        }
    }
}
