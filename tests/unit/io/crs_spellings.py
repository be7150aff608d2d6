"""UTM zones spelled as catalogs and files spell them."""

from __future__ import annotations

import pyproj

UNNAMED = (
    'PROJCS["UTM Zone {zone}, {side} Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",'
    'DATUM["Not_specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",{lon}],PARAMETER["scale_factor",0.9996],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",{north}],UNIT["metre",1,AUTHORITY["EPSG","9001"]],'
    'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)


def unnamed(zone: int, south: bool) -> str:
    """UTM as HLS writes it."""
    side = "Southern" if south else "Northern"
    return UNNAMED.format(zone=zone, side=side, lon=zone * 6 - 183, north=10_000_000 if south else 0)


def spellings(zone: int, south: bool) -> list[object]:
    code = (32700 if south else 32600) + zone
    crs = pyproj.CRS.from_epsg(code)
    side = " +south" if south else ""
    return [
        code, float(code), str(code), f"EPSG:{code}", f"epsg:{code}", f"urn:ogc:def:crs:EPSG::{code}",
        f"+init=epsg:{code}",
        crs.to_wkt(), crs.to_wkt("WKT1_GDAL"), crs.to_wkt("WKT1_ESRI"), crs.to_wkt("WKT2_2015"), crs.name,
        crs.to_json(), crs.to_json_dict(), f"+proj=utm +zone={zone}{side} +datum=WGS84 +units=m +no_defs",
        f"+proj=utm +zone={zone}{side} +ellps=WGS84 +units=m", unnamed(zone, south), f"EPSG:{code}+5773",
    ]  # fmt: skip
