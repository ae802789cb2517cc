"""The datasets this program can prepare, by name."""

from mrff.data.errors import DataError
from mrff.data.recipes.amazon import AMAZON_ELECTRONICS
from mrff.data.recipes.ciaodvd import CIAODVD
from mrff.data.recipes.kuairand import KUAIRAND
from mrff.data.recipes.kuaisar import KUAISAR
from mrff.data.recipes.movielens import ML_1M, ML_100K
from mrff.data.recipes.own_data import OWN_DATA
from mrff.data.recipes.recipe import Progress, Recipe
from mrff.data.recipes.synthetic import SYNTHETIC

_ALL: tuple[Recipe, ...] = (
    ML_100K,
    ML_1M,
    KUAISAR,
    KUAIRAND,
    CIAODVD,
    AMAZON_ELECTRONICS,
    OWN_DATA,
    SYNTHETIC,
)
RECIPES = {recipe.name: recipe for recipe in _ALL}


def recipe_named(name: str) -> Recipe:
    """The recipe of a dataset.

    Raises:
        DataError: there is none of this name.
    """
    if name not in RECIPES:
        raise DataError(f"unknown dataset {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]


__all__ = ["RECIPES", "Progress", "Recipe", "recipe_named"]
