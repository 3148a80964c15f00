"""Recipes from config files of mm: mmcv 1.x, as CMT and the public AQR fork have them, or mmengine.

Every setting of training is used, named as one that differs here, or refused. May import recipes/.
To read: `recipe_from_config`, then the sections.
"""
