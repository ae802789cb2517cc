"""The datasets this program can prepare, by name: a new one is its file and a line here."""

from mrff.data.errors import DataError
from mrff.data.recipes.amazon import AmazonElectronics
from mrff.data.recipes.ciaodvd import CiaoDVD
from mrff.data.recipes.domains import Domains
from mrff.data.recipes.kuaishou import KuaiRand, KuaiSAR
from mrff.data.recipes.movielens import MovieLens1M, MovieLens100K
from mrff.data.recipes.own_data import OwnData
from mrff.data.recipes.recipe import Progress, Recipe
from mrff.data.recipes.synthetic import Synthetic

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        MovieLens100K(),
        MovieLens1M(),
        KuaiSAR(),
        KuaiRand(),
        CiaoDVD(),
        AmazonElectronics(),
        OwnData(),
        Domains(),
        Synthetic(),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe of a dataset; DataError if there is none of this name."""
    if name not in RECIPES:
        raise DataError(f"unknown dataset {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]


__all__ = ["RECIPES", "Progress", "Recipe", "recipe_named"]
