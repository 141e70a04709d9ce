"""The unit sphere as a system: what a new geometry has to say, and nothing of any network."""

import numpy as np

from dln_manifolds.geodesics.submanifold import Submanifold


def dot(a, b):
    return np.sum(a * b, axis=-1, keepdims=True)


def tangent(x, v):
    return v - dot(x, v) * x


class Nodes:
    def __init__(self, points):
        self.points = points

    def take(self, members):
        return Nodes(self.points[members])


class Sphere(Submanifold[Nodes]):
    def goal(self, tolerance):
        return 1e-11

    def rates(self, state):
        """``x' = v``, ``v' = -<v, v> x``, and their derivatives along variations."""
        rate, (x, v) = np.empty_like(state), np.moveaxis(state[:, :, :1], 1, 0)
        rate[:, 0], rate[:, 1, :1] = state[:, 1], -dot(v, v) * x
        rate[:, 1, 1:] = -2 * dot(v, state[:, 1, 1:]) * x - dot(v, v) * state[:, 0, 1:]
        return rate, np.ones(len(state))

    def core(self, position):
        return np.ones((*position.shape[:-1], 1, 1))  # nothing is singular

    def project(self, state):
        x = state[:, :1, :1] / np.linalg.norm(state[:, :1, :1], axis=-1, keepdims=True)
        settled = tangent(x, state)
        settled[:, 0, :1] = x[:, 0]
        settled[:, 1, 1:] -= dot(settled[:, 1, :1], settled[:, 0, 1:]) * x[:, 0]
        return settled

    @property
    def linearized(self):
        return self

    @property
    def parallel(self):
        return Transport()

    def frame(self, points):
        return Nodes(points)

    def tangent_part(self, frame, vector):
        return tangent(frame.points, vector)

    def tangent_basis(self, frame):
        return np.linalg.svd(frame.points[:, None])[2][:, 1:]

    def shape(self, frame, vector):
        return dot(frame.points, vector)

    def bent(self, tangent_vec, shape):
        return shape * tangent_vec

    def nearest(self, points, like=None):
        return points / np.linalg.norm(points, axis=-1, keepdims=True)

    def first_path(self, start, end, times):
        return self.nearest(start[:, None] + times[:, None] * (end - start)[:, None])


class Transport(Sphere):
    def rates(self, state):
        """``U' = -<v, U> x``."""
        rate = -dot(state[:, 1:, :1], state) * state[:, :1, :1]
        rate[:, 0, 0] = state[:, 1, 0]
        return rate, np.ones(len(state))

    def project(self, state):
        x = state[:, :1, :1] / np.linalg.norm(state[:, :1, :1], axis=-1, keepdims=True)
        settled = tangent(x, state)
        settled[:, 0, :1] = x[:, 0]
        return settled
