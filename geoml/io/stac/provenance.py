"""Where an item comes from, and so what reading it may use: files of this machine, the user's keys and tokens.

An item is the user's own when its document is a file of this machine. A document elsewhere is not, whoever links to it,
and what `geoml.io.stac.walk.make_absolute` makes its self link says so for as long as the item lives.
"""

from __future__ import annotations

import pystac

from geoml.io.stac.catalog import Catalog
from geoml.io.stores.bucket import bucket_of, is_bucket
from geoml.io.stores.remote import is_url


def is_remote(item: pystac.Item, catalog: Catalog) -> bool:
    """True for an item of a remote catalog, and for one of a document elsewhere that a local catalog links to."""
    return catalog.remote or is_url(item.get_self_href() or "")


def may_use_keys(href: str, item: pystac.Item, catalog: Catalog) -> bool:
    """Whether an object may be asked for with the user's keys; True for an ``href`` that is in no object store.

    Those of local items are, as the user's own files name them. Of an item elsewhere those are in the bucket of its own
    document or catalog, which was opened with the same keys, and in the catalog's ``signed_buckets``.
    """
    if not is_bucket(href) or not is_remote(item, catalog):
        return True
    opened = {bucket_of(catalog.url), bucket_of(item.get_self_href())} - {""}
    return bucket_of(href) in opened.union(catalog.signed_buckets)
