//! Where everything stands: layers from left to right, an order within each, coordinates.
//!
//! The way of Sugiyama, Tagawa and Toda (1981): edges that close a circle are turned for the time being, layers
//! are longest paths, long edges go through a point in each layer between, sweeps by barycentre lessen
//! crossings, and then each layer is put as near to its neighbours as its order allows. Groups that nothing
//! connects are laid out each for itself and set in rows. Same input, same output.

mod order;

use std::collections::BTreeMap;

/// Space between two neighbours of a layer.
const BETWEEN: f64 = 22.0;
/// Space between two layers, without labels.
const GAP: f64 = 56.0;
/// What a label needs beside its own width: the ends of its line, and the arrow.
const AROUND_LABEL: f64 = 38.0;
/// Space between two groups.
const GROUPS: f64 = 44.0;
/// How wide a picture may be for its height before a row is full.
const WIDE: f64 = 2.2;
/// By how much a wire of a higher weight wins where two can't both be straight.
const STRONGER: f64 = 1000.0;
/// How many times neighbours are looked at, the last time from left to right.
const SWEEPS: usize = 33;

/// Something with a place of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// In pixels.
    pub width: f64,
    /// In pixels.
    pub height: f64,
    /// Stands right before what it leads to, and nothing leads to it.
    pub entrance: bool,
}

/// From one item to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wire {
    /// Index of an item.
    pub from: usize,
    /// Index of an item.
    pub to: usize,
    /// Those of the highest weight at an item are drawn straight where that can be had.
    pub weight: u8,
    /// In pixels; 0 where there is none.
    pub label: f64,
}

/// The way of a wire, from left to right.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// In pairs: from the one to the other it curves, and from a pair to the next it goes straight.
    pub points: Vec<(f64, f64)>,
    /// It begins at the right: the wire closes a circle.
    pub reversed: bool,
}

/// Everything with its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// The upper left corner of each item.
    pub places: Vec<(f64, f64)>,
    /// One for each wire; nothing where it leads from an item to itself.
    pub routes: Vec<Option<Route>>,
    /// In pixels.
    pub width: f64,
    /// In pixels.
    pub height: f64,
}

/// Lays everything out.
pub fn layout(items: &[Item], wires: &[Wire]) -> Layout {
    let mut blocks: Vec<Block> =
        groups(items.len(), wires).iter().map(|group| Block::new(items, wires, group)).collect();
    // The greatest first, as what the picture is about; those of a size in the order of their names.
    blocks.sort_by_key(|block| std::cmp::Reverse(block.places.len()));
    let mut layout = Layout {
        places: vec![(0.0, 0.0); items.len()],
        routes: vec![None; wires.len()],
        ..Layout::default()
    };
    let area: f64 = blocks.iter().map(|block| (block.width + GROUPS) * (block.height + GROUPS)).sum();
    let widest = blocks.iter().map(|block| block.width).fold(0.0, f64::max);
    let limit = widest.max((area * WIDE).sqrt());
    let (mut x, mut y, mut tallest) = (0.0, 0.0, 0.0_f64);
    for block in blocks {
        if x > 0.0 && x + block.width > limit {
            (x, y, tallest) = (0.0, y + tallest + GROUPS, 0.0);
        }
        for (item, (left, top)) in block.places {
            layout.places[item] = (x + left, y + top);
        }
        for (wire, mut route) in block.routes {
            route.points.iter_mut().for_each(|point| *point = (x + point.0, y + point.1));
            layout.routes[wire] = Some(route);
        }
        tallest = tallest.max(block.height);
        layout.width = layout.width.max(x + block.width);
        layout.height = layout.height.max(y + block.height);
        x += block.width + GROUPS;
    }
    layout
}

/// The items that wires hold together, each group in order.
fn groups(items: usize, wires: &[Wire]) -> Vec<Vec<usize>> {
    fn head(heads: &mut [usize], mut item: usize) -> usize {
        while heads[item] != item {
            heads[item] = heads[heads[item]];
            item = heads[item];
        }
        item
    }
    let mut heads: Vec<usize> = (0..items).collect();
    for wire in wires {
        let (a, b) = (head(&mut heads, wire.from), head(&mut heads, wire.to));
        heads[a.max(b)] = a.min(b);
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for item in 0..items {
        groups.entry(head(&mut heads, item)).or_default().push(item);
    }
    groups.into_values().collect()
}

/// A group with places of its own.
struct Block {
    places: Vec<(usize, (f64, f64))>,
    routes: Vec<(usize, Route)>,
    width: f64,
    height: f64,
}

/// A wire within a group, by the group's own numbers, in the direction in which it is drawn.
struct Strand {
    wire: usize,
    from: usize,
    to: usize,
    reversed: bool,
}

/// An item of a group, or a point that a long wire goes through.
struct Spot {
    layer: usize,
    width: f64,
    height: f64,
}

/// From one layer to the next.
#[derive(Clone, Copy)]
struct Piece {
    from: usize,
    to: usize,
    weight: u8,
    label: f64,
}

impl Block {
    fn new(items: &[Item], wires: &[Wire], group: &[usize]) -> Self {
        let number: BTreeMap<usize, usize> = group.iter().copied().zip(0..).collect();
        let strands = strands(&number, wires);
        let entrances: Vec<bool> = group.iter().map(|item| items[*item].entrance).collect();
        let mut spots: Vec<Spot> = layers(&entrances, &strands)
            .into_iter()
            .zip(group)
            .map(|(layer, item)| Spot { layer, width: items[*item].width, height: items[*item].height })
            .collect();
        let (pieces, ways) = pieces(&mut spots, &strands, wires);
        let order = order::order(&spots, &pieces);
        let columns = columns(&spots, &pieces, &order);
        let middles: Vec<f64> = middles(&spots, &pieces, &order).into_iter().map(f64::round).collect();
        let left = |spot: usize| {
            let Spot { layer, width, .. } = spots[spot];
            let (start, column) = columns[layer];
            let room = if entrances.get(spot) == Some(&true) { 1.0 } else { 0.5 };
            (start + (column - width) * room).round()
        };
        let places: Vec<_> = group
            .iter()
            .enumerate()
            .map(|(spot, item)| (*item, (left(spot), middles[spot] - spots[spot].height / 2.0)))
            .collect();
        let routes = strands
            .iter()
            .zip(ways)
            .map(|(strand, way)| {
                let mut points = Vec::new();
                for pair in way.windows(2) {
                    let right_end = |spot: usize| {
                        let (start, column) = columns[spots[spot].layer];
                        if spot < group.len() { left(spot) + spots[spot].width } else { start + column }
                    };
                    let left_end = |spot: usize| {
                        if spot < group.len() { left(spot) } else { columns[spots[spot].layer].0 }
                    };
                    points.push((right_end(pair[0]), middles[pair[0]]));
                    points.push((left_end(pair[1]), middles[pair[1]]));
                }
                (strand.wire, Route { points, reversed: strand.reversed })
            })
            .collect();
        let width = columns.last().map_or(0.0, |(start, column)| start + column);
        let height =
            spots.iter().zip(&middles).map(|(spot, middle)| middle + spot.height / 2.0).fold(0.0, f64::max);
        Self { places, routes, width: width.ceil(), height: height.ceil() }
    }
}

/// A group's wires, turned where they would close a circle.
fn strands(number: &BTreeMap<usize, usize>, wires: &[Wire]) -> Vec<Strand> {
    let mut strands: Vec<Strand> = wires
        .iter()
        .enumerate()
        .filter(|(_, wire)| wire.from != wire.to)
        .filter_map(|(index, wire)| {
            let (from, to) = (*number.get(&wire.from)?, *number.get(&wire.to)?);
            Some(Strand { wire: index, from, to, reversed: false })
        })
        .collect();
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); number.len()];
    let mut has_in = vec![false; number.len()];
    for (index, strand) in strands.iter().enumerate() {
        out[strand.from].push(index);
        has_in[strand.to] = true;
    }
    // 0: not seen, 1: on the way, 2: done. An edge to what is on the way closes a circle.
    let mut seen = vec![0_u8; number.len()];
    let starts = (0..number.len()).filter(|spot| !has_in[*spot]).chain(0..number.len());
    for start in starts.collect::<Vec<_>>() {
        if seen[start] != 0 {
            continue;
        }
        seen[start] = 1;
        let mut way = vec![(start, 0)];
        while let Some((spot, next)) = way.last_mut() {
            let Some(index) = out[*spot].get(*next).copied() else {
                seen[*spot] = 2;
                way.pop();
                continue;
            };
            *next += 1;
            let to = strands[index].to;
            match seen[to] {
                0 => {
                    seen[to] = 1;
                    way.push((to, 0));
                }
                1 => strands[index].reversed = true,
                _ => {}
            }
        }
    }
    for strand in strands.iter_mut().filter(|strand| strand.reversed) {
        std::mem::swap(&mut strand.from, &mut strand.to);
    }
    strands
}

/// The layer of each: the longest way to it, and for what nothing leads to, right before what it leads to.
fn layers(entrances: &[bool], strands: &[Strand]) -> Vec<usize> {
    let first = usize::from(entrances.contains(&true));
    let mut layers: Vec<usize> = entrances.iter().map(|entrance| if *entrance { 0 } else { first }).collect();
    let mut waiting = vec![0_usize; entrances.len()];
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); entrances.len()];
    for strand in strands {
        waiting[strand.to] += 1;
        out[strand.from].push(strand.to);
    }
    let sources: Vec<usize> = (0..entrances.len()).filter(|spot| waiting[*spot] == 0).collect();
    let mut ready = sources.clone();
    while let Some(spot) = ready.pop() {
        for to in out[spot].clone() {
            layers[to] = layers[to].max(layers[spot] + 1);
            waiting[to] -= 1;
            if waiting[to] == 0 {
                ready.push(to);
            }
        }
    }
    for spot in sources {
        if let Some(nearest) = out[spot].iter().map(|to| layers[*to]).min() {
            layers[spot] = nearest - 1;
        }
    }
    let least = layers.iter().copied().min().unwrap_or(0);
    layers.iter_mut().for_each(|layer| *layer -= least);
    layers
}

/// Every wire as pieces from layer to layer, with a new spot in each layer that it passes.
fn pieces(spots: &mut Vec<Spot>, strands: &[Strand], wires: &[Wire]) -> (Vec<Piece>, Vec<Vec<usize>>) {
    let mut pieces = Vec::new();
    let mut ways = Vec::new();
    for strand in strands {
        let Wire { weight, label, .. } = wires[strand.wire];
        let mut way = vec![strand.from];
        for layer in spots[strand.from].layer + 1..spots[strand.to].layer {
            way.push(spots.len());
            spots.push(Spot { layer, width: 0.0, height: 0.0 });
        }
        way.push(strand.to);
        for (index, pair) in way.windows(2).enumerate() {
            // The label stands on the first piece.
            let label = if index == 0 { label } else { 0.0 };
            pieces.push(Piece { from: pair[0], to: pair[1], weight, label });
        }
        ways.push(way);
    }
    (pieces, ways)
}

/// Where each layer's column begins, and how wide it is.
fn columns(spots: &[Spot], pieces: &[Piece], order: &[Vec<usize>]) -> Vec<(f64, f64)> {
    let mut x = 0.0;
    let mut columns = Vec::with_capacity(order.len());
    for (layer, members) in order.iter().enumerate() {
        let width = members.iter().map(|spot| spots[*spot].width).fold(0.0, f64::max);
        columns.push((x, width));
        let label = pieces
            .iter()
            .filter(|piece| spots[piece.from].layer == layer && piece.label > 0.0)
            .map(|piece| piece.label + AROUND_LABEL)
            .fold(0.0, f64::max);
        x += width + label.max(GAP);
    }
    columns
}

/// The middle of each spot, from the top: as near to its neighbours' as the order in its layer allows.
fn middles(spots: &[Spot], pieces: &[Piece], order: &[Vec<usize>]) -> Vec<f64> {
    let mut before: Vec<Vec<Piece>> = vec![Vec::new(); spots.len()];
    let mut after = before.clone();
    for piece in pieces {
        before[piece.to].push(*piece);
        after[piece.from].push(Piece { from: piece.to, to: piece.from, ..*piece });
    }
    let mut middles = vec![0.0; spots.len()];
    for members in order {
        let wishes: Vec<(f64, f64)> = members.iter().map(|_| (0.0, 1.0)).collect();
        settle(spots, members, &wishes, &mut middles);
    }
    let wish = |spot: usize, sides: &[&Vec<Vec<Piece>>], middles: &[f64]| {
        let near = || sides.iter().flat_map(|side| &side[spot]);
        let most = near().map(|piece| piece.weight).max()?;
        let (sum, count) = near()
            .filter(|piece| piece.weight == most)
            .fold((0.0, 0.0), |(sum, count), piece| (sum + middles[piece.from], count + 1.0));
        Some((sum / count, STRONGER.powi(i32::from(most))))
    };
    for sweep in 0..SWEEPS {
        let forward = sweep % 2 == 0;
        // The last ones look at both sides, so that no side has the last word.
        let sides: &[&Vec<Vec<Piece>>] = match (sweep + 2 >= SWEEPS, forward) {
            (true, _) => &[&before, &after],
            (false, true) => &[&before],
            (false, false) => &[&after],
        };
        let layers: Vec<&Vec<usize>> =
            if forward { order.iter().collect() } else { order.iter().rev().collect() };
        for members in layers {
            let wishes: Vec<(f64, f64)> = members
                .iter()
                .map(|spot| wish(*spot, sides, &middles).unwrap_or((middles[*spot], 1.0)))
                .collect();
            settle(spots, members, &wishes, &mut middles);
        }
    }
    let top = spots.iter().zip(&middles).map(|(spot, middle)| middle - spot.height / 2.0);
    let top = top.fold(f64::INFINITY, f64::min);
    middles.iter_mut().for_each(|middle| *middle -= top);
    middles
}

/// Puts a layer's members as near to what they wish (with a weight) as their order and sizes allow: the least
/// sum of squares, by pooling neighbours that stand in each other's way.
fn settle(spots: &[Spot], members: &[usize], wishes: &[(f64, f64)], middles: &mut [f64]) {
    // Distances taken off, what is left has only to rise.
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(members.len());
    for (index, spot) in members.iter().enumerate() {
        if index > 0 {
            offset += (spots[members[index - 1]].height + spots[*spot].height) / 2.0 + BETWEEN;
        }
        offsets.push(offset);
    }
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for ((wish, weight), offset) in wishes.iter().zip(&offsets) {
        pools.push(((wish - offset) * weight, *weight, 1));
        while let [.., (sum, weight, _), (next_sum, next_weight, _)] = pools.as_slice() {
            if sum / weight <= next_sum / next_weight {
                break;
            }
            let Some((sum, weight, count)) = pools.pop() else { break };
            if let Some(last) = pools.last_mut() {
                *last = (last.0 + sum, last.1 + weight, last.2 + count);
            }
        }
    }
    let values = pools.iter().flat_map(|(sum, weight, count)| std::iter::repeat_n(sum / weight, *count));
    for ((spot, offset), value) in members.iter().zip(&offsets).zip(values) {
        middles[*spot] = value + offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Item = Item { width: 100.0, height: 50.0, entrance: false };

    fn wire(from: usize, to: usize) -> Wire {
        Wire { from, to, weight: 3, label: 0.0 }
    }

    fn overlap(layout: &Layout, items: &[Item]) -> bool {
        let apart = |a: usize, b: usize| {
            let ((ax, ay), (bx, by)) = (layout.places[a], layout.places[b]);
            ax + items[a].width <= bx
                || bx + items[b].width <= ax
                || ay + items[a].height <= by
                || by + items[b].height <= ay
        };
        (0..items.len()).any(|a| (0..a).any(|b| !apart(a, b)))
    }

    #[test]
    fn a_chain_is_straight_and_goes_right() {
        let layout = layout(&[BOX; 4], &[wire(0, 1), wire(1, 2), wire(2, 3)]);
        assert!(layout.places.windows(2).all(|pair| pair[0].0 + 100.0 < pair[1].0 && pair[0].1 == pair[1].1));
        assert_eq!(layout.height, 50.0);
    }

    #[test]
    fn entrances_stand_right_before_what_they_lead_to() {
        let door = Item { entrance: true, ..BOX };
        // A door to the end of a chain of three, whose own door is the chain's begin.
        let items = [BOX, BOX, BOX, door, door];
        let layout = layout(&items, &[wire(0, 1), wire(1, 2), wire(3, 0), wire(4, 2)]);
        let x: Vec<f64> = layout.places.iter().map(|place| place.0).collect();
        assert!(x[3] < x[0] && x[0] < x[1] && x[1] < x[2] && x[4] == x[1], "{x:?}");
        assert!(!overlap(&layout, &items));
    }

    #[test]
    fn circles_come_to_an_end() {
        let layout = layout(&[BOX; 3], &[wire(0, 1), wire(1, 2), wire(2, 0), wire(1, 1)]);
        let reversed: Vec<Option<bool>> =
            layout.routes.iter().map(|route| route.as_ref().map(|route| route.reversed)).collect();
        assert_eq!(reversed, [Some(false), Some(false), Some(true), None]);
    }

    #[test]
    fn nothing_lies_on_anything() {
        for (count, step) in [(1, 1), (12, 5), (40, 7), (200, 13)] {
            let items: Vec<Item> = (0..count)
                .map(|index| Item { width: 60.0 + (index * 37 % 90) as f64, entrance: false, ..BOX })
                .collect();
            let wires: Vec<Wire> = (0..count)
                .filter(|index| index % 4 != 3)
                .map(|index| wire(index, (index * step + 1) % count))
                .collect();
            let made = layout(&items, &wires);
            assert!(!overlap(&made, &items), "{count}");
            assert_eq!(made, layout(&items, &wires));
            let inside = |(x, y): &(f64, f64)| *x >= 0.0 && *y >= 0.0 && *x < made.width && *y < made.height;
            assert!(made.places.iter().all(inside));
        }
    }

    #[test]
    fn settling_keeps_order_and_distance() {
        let spots: Vec<Spot> = (0..4).map(|_| Spot { layer: 0, width: 1.0, height: 10.0 }).collect();
        let mut middles = vec![0.0; 4];
        settle(&spots, &[2, 0, 1, 3], &[(100.0, 1.0), (0.0, 1.0), (0.0, 1.0), (500.0, 1.0)], &mut middles);
        let step = 10.0 + BETWEEN;
        // The three that are in each other's way stand around the middle of their wishes, in order.
        let middle = 100.0 / 3.0;
        for (spot, expected) in [(2, middle - step), (0, middle), (1, middle + step), (3, 500.0)] {
            assert!((middles[spot] - expected).abs() < 1e-9, "{middles:?}");
        }
    }
}
