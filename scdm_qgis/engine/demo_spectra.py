"""The materials of the demo scene: reflectance from 400 to 1000 nm.

The spectra are drawn by hand after textbook shapes (chlorophyll's absorption in blue and red, the red
edge, the iron features of soils and tiles, water's darkness beyond 700 nm). Each material is a pair of
spectra between which its pixels vary. Some look alike in red, green and blue and differ beyond:
artificial turf and grass, dark blue roofs and water, worn asphalt and grey roofs.
"""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np
from scipy.interpolate import PchipInterpolator

FIRST_NM = 400.0
LAST_NM = 1000.0

_NM = (400, 430, 460, 490, 520, 550, 580, 610, 640, 675, 695, 715, 735, 760, 800, 870, 920, 970, 1000)

# Reflectance in permille at _NM: one end of the material's variation, then the other.
_PERMILLE: Dict[str, Tuple[Tuple[int, ...], Tuple[int, ...]]] = {
    "asphalt": (
        (60, 63, 66, 69, 72, 75, 77, 80, 82, 84, 85, 87, 88, 90, 93, 98, 101, 104, 106),
        (75, 79, 83, 88, 93, 98, 102, 106, 109, 113, 115, 117, 119, 121, 125, 131, 134, 137, 139),
    ),
    "worn asphalt": (
        (95, 101, 107, 113, 119, 125, 130, 135, 139, 143, 145, 147, 149, 151, 154, 158, 161, 164, 166),
        (125, 132, 140, 148, 156, 164, 171, 177, 182, 188, 191, 194, 197, 200, 204, 210, 214, 218, 220),
    ),
    "concrete": (
        (180, 200, 220, 238, 255, 270, 283, 293, 300, 307, 310, 313, 316, 320, 325, 330, 332, 330, 333),
        (240, 265, 290, 312, 332, 350, 364, 375, 383, 391, 395, 398, 401, 405, 410, 416, 419, 416, 420),
    ),
    "red tiles": (
        (45, 50, 56, 63, 72, 90, 140, 185, 210, 230, 240, 252, 263, 270, 263, 252, 270, 295, 310),
        (65, 72, 80, 90, 102, 125, 185, 240, 275, 300, 313, 327, 340, 348, 340, 325, 345, 375, 390),
    ),
    "grey roof": (
        (100, 105, 110, 115, 120, 124, 127, 129, 130, 130, 129, 127, 125, 122, 118, 112, 110, 110, 111),
        (125, 132, 140, 147, 154, 160, 164, 167, 169, 169, 168, 165, 162, 158, 152, 144, 141, 141, 142),
    ),
    "blue roof": (
        (48, 54, 59, 56, 52, 46, 38, 32, 29, 34, 45, 65, 90, 130, 185, 225, 235, 240, 243),
        (140, 190, 240, 220, 165, 120, 90, 76, 72, 84, 105, 140, 185, 240, 300, 340, 350, 355, 358),
    ),
    "metal roof": (
        (330, 350, 365, 378, 388, 395, 400, 403, 405, 405, 404, 402, 398, 392, 382, 375, 388, 402, 410),
        (440, 490, 520, 540, 555, 565, 572, 577, 580, 582, 582, 580, 576, 570, 560, 555, 568, 585, 595),
    ),
    "artificial turf": (
        (30, 34, 40, 49, 73, 98, 84, 68, 57, 53, 53, 56, 62, 72, 90, 120, 140, 155, 163),
        (34, 39, 46, 57, 84, 112, 97, 79, 66, 61, 61, 65, 72, 84, 106, 140, 163, 180, 190),
    ),
    "grass": (
        (28, 33, 39, 48, 74, 100, 81, 66, 55, 44, 63, 155, 280, 385, 435, 455, 465, 445, 460),
        (33, 38, 44, 55, 86, 118, 106, 93, 81, 72, 95, 185, 285, 350, 385, 410, 423, 405, 420),
    ),
    "dry grass": (
        (60, 75, 90, 108, 132, 155, 173, 188, 200, 208, 220, 255, 285, 310, 335, 365, 380, 385, 395),
        (85, 105, 127, 152, 182, 210, 233, 252, 268, 284, 295, 312, 328, 345, 370, 403, 423, 432, 445),
    ),
    "crop": (
        (24, 27, 31, 37, 56, 79, 59, 47, 39, 30, 43, 130, 295, 440, 505, 525, 535, 505, 525),
        (34, 40, 47, 57, 81, 106, 100, 95, 89, 82, 100, 175, 265, 330, 370, 400, 415, 400, 415),
    ),
    "broadleaf tree": (
        (17, 19, 22, 27, 43, 63, 48, 39, 32, 26, 37, 105, 220, 315, 360, 380, 388, 370, 383),
        (22, 25, 29, 36, 59, 84, 67, 54, 45, 35, 50, 135, 260, 370, 425, 445, 455, 435, 450),
    ),
    "conifer": (
        (14, 16, 18, 21, 30, 41, 33, 28, 24, 21, 27, 60, 115, 165, 195, 210, 215, 203, 212),
        (17, 19, 22, 26, 38, 52, 42, 35, 30, 25, 34, 80, 155, 220, 255, 273, 280, 265, 276),
    ),
    "bright soil": (
        (80, 100, 120, 143, 172, 203, 235, 262, 283, 303, 313, 323, 333, 344, 358, 370, 385, 403, 413),
        (110, 135, 162, 192, 228, 265, 302, 333, 357, 380, 392, 403, 414, 426, 442, 454, 470, 490, 500),
    ),
    "dark soil": (
        (30, 35, 41, 48, 56, 65, 75, 84, 92, 101, 106, 111, 116, 122, 132, 148, 160, 172, 180),
        (50, 59, 69, 81, 95, 110, 126, 140, 152, 165, 172, 179, 186, 195, 208, 228, 243, 259, 268),
    ),
    "water": (
        (44, 47, 49, 50, 49, 44, 35, 24, 19, 16, 14, 11, 9, 8, 8, 6, 5, 4, 4),
        (42, 48, 54, 61, 71, 79, 76, 60, 52, 46, 47, 42, 28, 22, 22, 15, 11, 9, 9),
    ),
    "rubber track": (
        (45, 49, 54, 60, 70, 95, 150, 210, 245, 270, 285, 305, 330, 365, 420, 475, 500, 515, 525),
        (55, 60, 67, 75, 87, 115, 175, 240, 280, 310, 325, 345, 370, 405, 460, 515, 540, 555, 565),
    ),
}

MATERIALS: Tuple[str, ...] = tuple(_PERMILLE)
"""Names of the materials; a material's index here is its label in the scene."""


def band_centres(band_count: int) -> Tuple[np.ndarray, float]:
    """Return `band_count` wavelengths spread evenly over 400 to 1000 nm, and their width (fwhm) in nm."""
    centres = np.linspace(FIRST_NM, LAST_NM, band_count)
    return centres, float(centres[1] - centres[0])


def material_spectra(wavelengths_nm: np.ndarray, fwhm_nm: float) -> np.ndarray:
    """Return reflectance as a sensor with Gaussian bands sees it, (2, material, band), from 0 to 1.

    The first axis holds the two ends of each material's variation.
    """
    fine_nm = np.arange(FIRST_NM, LAST_NM + 1)
    sigma_nm = max(fwhm_nm / 2.3548, 0.5)
    response = np.exp(-0.5 * ((fine_nm - wavelengths_nm[:, None]) / sigma_nm) ** 2)
    response /= response.sum(axis=1, keepdims=True)
    permille = np.array([_PERMILLE[name] for name in MATERIALS])
    fine: np.ndarray = PchipInterpolator(_NM, permille / 1000, axis=2)(fine_nm)
    return np.moveaxis(fine @ response.T, 1, 0)
