"""Where a test's figure goes."""


def files(folder, name="figure"):
    """The two paths that a plotting script asks for."""
    return {"png": str(folder / f"{name}.png"), "pdf": str(folder / f"{name}.pdf")}
