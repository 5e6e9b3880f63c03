//! The order within each layer, with few crossings.

use super::{Piece, Spot};

/// Sweeps there and back; the best order seen is kept.
const SWEEPS: usize = 24;

/// The members of each layer from the top.
pub(super) fn order(spots: &[Spot], pieces: &[Piece]) -> Vec<Vec<usize>> {
    let layers = spots.iter().map(|spot| spot.layer + 1).max().unwrap_or(0);
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); layers];
    for (index, spot) in spots.iter().enumerate() {
        order[spot.layer].push(index);
    }
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); spots.len()];
    let mut after = before.clone();
    for piece in pieces {
        before[piece.to].push(piece.from);
        after[piece.from].push(piece.to);
    }
    let mut positions = positions(&order, spots.len());
    let mut best = order.clone();
    let mut fewest = crossings(&order, &after, &positions);
    for sweep in 0..SWEEPS {
        if fewest == 0 {
            break;
        }
        let forward = sweep % 2 == 0;
        let near = if forward { &before } else { &after };
        for step in 1..layers {
            let members = &mut order[if forward { step } else { layers - 1 - step }];
            // Whoever has no neighbour there stays; ties stay in their order, and in half of the sweeps turn
            // around, which gets out of dead ends.
            if sweep % 4 >= 2 {
                members.reverse();
            }
            let weight = |spot: &usize| match near[*spot].len() {
                0 => positions[*spot],
                count => near[*spot].iter().map(|near| positions[*near]).sum::<f64>() / count as f64,
            };
            let mut weighed: Vec<(f64, usize)> = members.iter().map(|spot| (weight(spot), *spot)).collect();
            weighed.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (place, (_, spot)) in weighed.into_iter().enumerate() {
                members[place] = spot;
                positions[spot] = place as f64;
            }
        }
        let now = crossings(&order, &after, &positions);
        if now < fewest {
            fewest = now;
            best.clone_from(&order);
        }
    }
    best
}

fn positions(order: &[Vec<usize>], spots: usize) -> Vec<f64> {
    let mut positions = vec![0.0; spots];
    for members in order {
        for (place, spot) in members.iter().enumerate() {
            positions[*spot] = place as f64;
        }
    }
    positions
}

/// How many pairs of pieces cross: for each layer, the inversions of where its pieces end in the order of where
/// they begin, counted in a Fenwick tree.
fn crossings(order: &[Vec<usize>], after: &[Vec<usize>], positions: &[f64]) -> usize {
    let mut crossings = 0;
    for pair in order.windows(2) {
        let mut ends = Vec::new();
        for spot in &pair[0] {
            let from = ends.len();
            ends.extend(after[*spot].iter().map(|to| positions[*to] as usize));
            ends[from..].sort_unstable();
        }
        let mut tree = vec![0_usize; pair[1].len() + 1];
        for (seen, end) in ends.iter().enumerate() {
            let mut not_after = 0;
            let mut at = end + 1;
            while at > 0 {
                not_after += tree[at];
                at &= at - 1;
            }
            crossings += seen - not_after;
            at = end + 1;
            while at < tree.len() {
                tree[at] += 1;
                at += at & at.wrapping_neg();
            }
        }
    }
    crossings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots(layers: &[usize]) -> Vec<Spot> {
        layers.iter().map(|layer| Spot { layer: *layer, width: 1.0, height: 1.0 }).collect()
    }

    fn piece((from, to): (usize, usize)) -> Piece {
        Piece { from, to, weight: 1, label: 0.0 }
    }

    #[test]
    fn crossings_are_counted_and_undone() {
        let spots = spots(&[0, 0, 0, 1, 1, 1]);
        let pieces: Vec<Piece> = [(0, 5), (1, 4), (2, 3)].map(piece).into();
        let after = [vec![5], vec![4], vec![3], vec![], vec![], vec![]];
        let order_before = [vec![0, 1, 2], vec![3, 4, 5]];
        assert_eq!(crossings(&order_before, &after, &positions(&order_before, 6)), 3);
        assert_eq!(order(&spots, &pieces), [vec![0, 1, 2], vec![5, 4, 3]]);
    }

    #[test]
    fn without_crossings_the_order_stays() {
        let spots = spots(&[0, 1, 1, 1]);
        let pieces: Vec<Piece> = [(0, 3), (0, 1), (0, 2)].map(piece).into();
        assert_eq!(order(&spots, &pieces), [vec![0], vec![1, 2, 3]]);
    }
}
