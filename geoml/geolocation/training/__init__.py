"""Training of locators, backbones and features."""
