"""The datasets this program can prepare, by name."""

from mrff_data.errors import DataError
from mrff_data.recipes.amazon import AMAZON_ELECTRONICS
from mrff_data.recipes.ciaodvd import CIAODVD
from mrff_data.recipes.kuairand import KUAIRAND
from mrff_data.recipes.kuaisar import KUAISAR
from mrff_data.recipes.movielens import ML_1M, ML_100K
from mrff_data.recipes.own_data import OWN_DATA
from mrff_data.recipes.recipe import Progress, Recipe
from mrff_data.recipes.synthetic import SYNTHETIC

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
