"""Rendered 3-D scenes: a coloured solid in a coloured room, seen by a camera that moves around it.

The factors and their order are those of Shapes3D (Burgess & Kim, 2018). The images are our own rendering, so results on
them are not results on Shapes3D.

An image is linear in its three colours. Rays are therefore cast once for each of the 480 (scale, shape, orientation)
cells. A cell stores for each pixel the weights of four colours: floor, wall, object and sky. The image of any of the
480,000 factor combinations is then a small matrix product.
"""

import functools
import threading

import numpy as np
from tqdm import tqdm

from cldis_jax.data.source import DataError, Source

SHAPES = ("cube", "cylinder", "sphere", "capsule")
RADIUS = {"cube": 0.76, "cylinder": 0.72, "sphere": 0.92, "capsule": 0.56}  # of the cube: half its side
HEIGHT = {"cube": 1.52, "cylinder": 1.6, "sphere": 1.84, "capsule": 2.3}
CELL_SIZES = (8, 4, 15)  # scale, shape, orientation
SCALE_RANGE = (0.75, 1.25)
YAW_RANGE = (-30.0, 30.0)  # degrees

ROOM = 2.6  # half the side of the square room; the object is in its centre, on the floor y = 0
WALL_HEIGHT = 2.7
CAMERA_DISTANCE, CAMERA_HEIGHT, TARGET_HEIGHT = 5.6, 3.1, 1.15
FIELD_OF_VIEW = 42.0  # degrees, horizontally and vertically
LIGHT = np.array([0.55, 0.75, 0.38], np.float32) / np.float32(np.linalg.norm([0.55, 0.75, 0.38]))
AMBIENT, DIFFUSE = 0.5, 0.5
SPECULAR, SHININESS = 0.45, 24
SHADOW = 0.55  # share of the light that remains on the floor in the object's shadow
SATURATION, VALUE = 0.85, 0.97
SKY = np.array([0.80, 0.90, 1.0], np.float32)  # also the tint of the highlights

_cells_lock = threading.Lock()


class Scenes(Source):
    """The 480,000 rendered scenes, uint8 [image_size, image_size, 3], for any image_size of at least 16.

    The first fetch casts the rays of all cells (3 s at 32 pixels, 6 s at 64). The cells stay in memory: 31 MB at 64
    pixels, four times as much at twice the size.
    """

    name = "scenes"
    factor_names = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    factor_sizes = (10, 10, 10, *CELL_SIZES)

    def __init__(self, image_size: int = 64):
        if image_size < 16:
            raise DataError(f"scenes need at least 16 pixels per side, got image_size={image_size}")
        self.image_size = image_size

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        return self.render(self.factors(indices))

    def render(self, factors: np.ndarray) -> np.ndarray:
        """Images uint8 [B, H, W, 3] of factor values [B, 6].

        Real values are allowed. Hues are continuous and periodic. Scale, shape and orientation are rounded to their
        nearest values.
        """
        factors = np.asarray(factors)
        with _cells_lock:  # only one reader thread computes the cells
            cells = _cells(self.image_size)
        nearest = np.clip(np.rint(factors[:, 3:]), 0, np.array(CELL_SIZES) - 1).astype(int)
        weights = [cells[i] for i in np.ravel_multi_index(tuple(nearest.T), CELL_SIZES)]
        return _mix(self.image_size, weights, factors[:, :3])

    def raycast(self, factors: np.ndarray) -> np.ndarray:
        """Images uint8 [B, H, W, 3] of real factor values [B, 6], continuous in every factor but the shape.

        At whole values these are the images of `render`. Rays are cast for each distinct geometry, in milliseconds.
        """
        factors = np.asarray(factors)
        geometries, which = np.unique(factors[:, 3:].astype(float), axis=0, return_inverse=True)
        cast = [_cast(self.image_size, *geometry) for geometry in geometries]
        return _mix(self.image_size, [cast[i] for i in which.ravel()], factors[:, :3])


def hue_to_rgb(hue: np.ndarray) -> np.ndarray:
    """RGB in [0, 1] [..., 3] of hues [...]. The hue circle has ten units; saturation and value are constant."""
    k = (np.array([5, 3, 1]) + np.asarray(hue, float)[..., None] * 0.6) % 6
    return VALUE * (1 - SATURATION * np.clip(np.minimum(k, 4 - k), 0, 1))


def _mix(size: int, weights: list[np.ndarray], hues: np.ndarray) -> np.ndarray:
    """Images [B, size, size, 3] from B arrays of weights [size, size, 4] and hues [B, 3] of floor, wall and object."""
    colours = np.empty((len(hues), 4, 3), np.float32)
    colours[:, :3] = hue_to_rgb(hues)
    colours[:, 3] = SKY
    images = np.empty((len(hues), size * size, 3), np.uint8)
    for image, weight, colour in zip(images, weights, colours * 255):
        image[:] = weight.reshape(-1, 4) @ colour + 0.5
    return images.reshape(len(hues), size, size, 3)


@functools.lru_cache(maxsize=2)
def _cells(size: int) -> np.ndarray:
    """The colour weights of all cells, float32 [480, size, size, 4]."""
    cells = np.empty((np.prod(CELL_SIZES), size, size, 4), np.float32)
    geometries = tqdm(np.ndindex(*CELL_SIZES), "casting the scenes", len(cells), disable=size <= 64 or None)
    for geometry, cell in zip(geometries, cells):
        cell[:] = _cast(size, *geometry)
    return cells


def _cast(size: int, scale: float, shape: float, orientation: float) -> np.ndarray:
    """The weights of the colours of floor, wall, object and sky in each pixel, float32 [size, size, 4]."""
    solid = SHAPES[int(np.clip(np.rint(shape), 0, len(SHAPES) - 1))]
    extent = _between(SCALE_RANGE, scale / 7)
    yaw = np.deg2rad(_between(YAW_RANGE, orientation / 14))
    samples = 4 if size < 48 else 3 if size < 96 else 2  # rays per pixel, in each dimension

    eye, rays = _camera(size * samples, yaw)
    weights = _room(eye, rays, solid, extent)
    hit, normal = _intersect(solid, extent, eye, rays)
    light = np.clip(normal @ LIGHT, 0, None)
    # Blinn-Phong. The highlight replaces object colour, so that no pixel is brighter than its brightest colour.
    half = LIGHT - rays[hit]
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    shine = SPECULAR * np.clip((normal * half).sum(-1), 0, None) ** SHININESS * (light > 0)
    weights[hit] = 0
    weights[hit, 2] = (AMBIENT + DIFFUSE * light) * (1 - shine)
    weights[hit, 3] = shine
    return weights.reshape(size, samples, size, samples, 4).mean((1, 3))


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _camera(size: int, yaw: float) -> tuple[np.ndarray, np.ndarray]:
    """The eye [3] and the unit directions of its rays [size * size, 3], row by row from the top left."""
    eye = np.array([CAMERA_DISTANCE * np.sin(yaw), CAMERA_HEIGHT, CAMERA_DISTANCE * np.cos(yaw)], np.float32)
    forward = np.array([0, TARGET_HEIGHT, 0], np.float32) - eye
    forward /= np.linalg.norm(forward)
    right = np.array([np.cos(yaw), 0, -np.sin(yaw)], np.float32)
    up = np.cross(right, forward)
    offset = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1) * np.tan(np.deg2rad(FIELD_OF_VIEW / 2))
    offset = offset.astype(np.float32)
    rays = forward + offset[None, :, None] * right - offset[:, None, None] * up
    rays = rays.reshape(-1, 3)
    return eye, rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _room(eye: np.ndarray, rays: np.ndarray, solid: str, extent: float) -> np.ndarray:
    """The colour weights [N, 4] of the room without the solid, but with its shadow on the floor."""
    with np.errstate(divide="ignore"):
        to_walls = (np.sign(rays[:, ::2]) * np.float32(ROOM) - eye[::2]) / rays[:, ::2]
        to_floor = np.where(rays[:, 1] < 0, -eye[1] / rays[:, 1], np.inf)
    facing_x = to_walls[:, 0] < to_walls[:, 1]
    to_wall = np.minimum(to_walls[:, 0], to_walls[:, 1])
    inward_light = np.where(facing_x, -np.sign(rays[:, 0]) * LIGHT[0], -np.sign(rays[:, 2]) * LIGHT[2])

    on_floor = to_floor < to_wall
    above = ~on_floor & (eye[1] + to_wall * rays[:, 1] > WALL_HEIGHT)
    weights = np.zeros((len(rays), 4), np.float32)
    weights[:, 1] = np.where(on_floor | above, 0, AMBIENT + DIFFUSE * np.clip(inward_light, 0, None))
    weights[above, 3] = 1
    weights[on_floor, 0] = AMBIENT + DIFFUSE * LIGHT[1]

    floor = np.flatnonzero(on_floor)
    points = eye + to_floor[floor, None] * rays[floor]
    shaded, _ = _intersect(solid, extent, points, np.broadcast_to(LIGHT, points.shape))
    weights[floor[shaded], 0] *= SHADOW
    return weights


def _intersect(solid: str, extent: float, origins: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(indices [M] of the rays that hit the solid, outward unit normals [M, 3] at these points).

    `rays` [N, 3] have unit length. `origins` is [N, 3], or [3] if all rays have the same origin.
    """
    radius, height = np.float32(RADIUS[solid]), np.float32(HEIGHT[solid])
    origins = np.broadcast_to(origins / np.float32(extent), rays.shape)  # in the units of RADIUS and HEIGHT

    # Rays that miss the bounding sphere, which are most, are dropped before the exact tests.
    to_centre = np.array([0, height / 2, 0], np.float32) - origins
    along = np.einsum("ij,ij->i", to_centre, rays)
    miss_squared = np.einsum("ij,ij->i", to_centre, to_centre) - along * along
    bound = 2 * radius**2 if solid != "sphere" else radius**2
    kept = np.flatnonzero((miss_squared < bound + height**2 / 4) & (along > 0))
    o, d = origins[kept], rays[kept]

    nearest = np.full(len(kept), np.inf, np.float32)
    normals = np.zeros((len(kept), 3), np.float32)

    def add_surface(distance, valid, normal):
        closer = valid & (distance > 0) & (distance < nearest)
        nearest[closer] = distance[closer]
        normals[closer] = normal[closer]

    with np.errstate(divide="ignore", invalid="ignore"):
        if solid == "cube":
            low = np.array([-radius, 0, -radius], np.float32)
            high = np.array([radius, height, radius], np.float32)
            enter = np.where(d > 0, low - o, high - o) / d
            leave = np.where(d > 0, high - o, low - o) / d
            face = enter.argmax(-1)
            distance = enter.max(-1)
            add_surface(distance, distance < leave.min(-1), -np.sign(d) * np.eye(3, dtype=np.float32)[face])
        if solid in ("cylinder", "capsule"):
            ends = (0, height) if solid == "cylinder" else (radius, height - radius)
            distance = _entry(o[:, ::2], d[:, ::2], radius)
            y = o[:, 1] + distance * d[:, 1]
            side = (o + distance[:, None] * d) * np.array([1, 0, 1], np.float32) / radius
            add_surface(distance, (y >= ends[0]) & (y <= ends[1]), side)
        if solid == "cylinder":
            lid = np.where(d[:, 1] < 0, height, 0)
            distance = (lid - o[:, 1]) / d[:, 1]
            across = o[:, ::2] + distance[:, None] * d[:, ::2]
            add_surface(distance, (across**2).sum(-1) < radius**2, -np.sign(d) * np.array([0, 1, 0], np.float32))
        for centre in {"sphere": [radius], "capsule": [radius, height - radius]}.get(solid, []):
            from_centre = o - np.array([0, centre, 0], np.float32)
            distance = _entry(from_centre, d, radius)
            add_surface(distance, np.isfinite(distance), (from_centre + distance[:, None] * d) / radius)

    hit = np.isfinite(nearest)
    return kept[hit], normals[hit]


def _entry(o: np.ndarray, d: np.ndarray, radius: float) -> np.ndarray:
    """Distance [N] at which rays o + t d [N, 2 or 3] enter a circle or sphere around 0; NaN if they miss it."""
    a, b = (d * d).sum(-1), (o * d).sum(-1)
    return (-b - np.sqrt(b * b - a * ((o * o).sum(-1) - radius**2))) / a
