"""The report in a real browser. Not part of the ordinary tests: `apt-get install chromium`, `pip install playwright`,
then `pytest tests/browser`.
"""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import report_lake
from playwright.sync_api import Browser, Page, expect, sync_playwright

from argyase.datalake.lake import Lake
from argyase.stages import _cli
from argyase.stages._run import with_error

# Root in a container has no sandbox of its own; three dimensions without a graphics card are drawn by SwiftShader.
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
PLOTS = {"msd", "vanhove", "hops", "density", "jumps", "coordination", "distinct"}


@dataclass
class Seen:
    """A page, and what the browser said of it."""

    page: Page
    ids: dict[str, str]
    lake: Lake
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, name: str) -> None:
        """Open a run by its address."""
        self.page.evaluate("id => { location.hash = `run=${id}` }", self.ids[name])
        expect(self.page.locator("#details h2")).to_be_visible()
        expect(self.page.locator("#details code").first).to_have_text(self.ids[name])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "no chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    folder = tmp_path_factory.mktemp("report")
    ids = report_lake.make(folder / "lake")
    assert _cli.main(["report", "--lake", str(folder / "lake"), "--output", str(folder / "r.html")]) == 0
    return ids, folder


@pytest.fixture(scope="module")
def opened(browser: Browser, made: tuple[dict[str, str], Path]) -> Iterator[Seen]:
    """The page, opened once: parsing plotly takes a second or two."""
    ids, folder = made
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(20_000)
    found = Seen(page, ids, Lake(folder / "lake", create=False))
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))

    def said(kind: str, text: str) -> None:
        # A hint at speed, of plotly's axes in three dimensions.
        if kind in ("error", "warning") and "willReadFrequently" not in text:
            found.complaints.append(text)

    page.on("console", lambda message: said(message.type, message.text))
    page.goto((folder / "r.html").as_uri())
    yield found
    page.close()


@pytest.fixture
def seen(opened: Seen) -> Iterator[Seen]:
    """The page, which must not ask for anything but itself, and not be complained of, whatever a test does with it."""
    page = opened.page
    page.evaluate("location.hash = ''")
    expect(page.locator("#details")).to_be_hidden()
    page.locator("#filter").fill("")
    page.locator("#facet-potential").select_option("LiPSCl-study")
    page.locator("#facet-temperature_K").select_option("600")
    yield opened
    assert page.evaluate("window.bad") is None
    assert opened.complaints == []
    # blob: images that the page itself made
    (address,) = [url for url in opened.requests if not url.startswith(("blob:", "data:"))]
    assert address.startswith("file://")


def test_the_table_has_all_runs(seen: Seen) -> None:
    rows = seen.page.locator("#runs tbody tr")
    expect(rows).to_have_count(len(seen.ids))
    for name in ("whole", "seed", "bound", "hot"):
        scalars = next(r.scalars for r in seen.lake.search("conductivity") if seen.ids[name] in r.inputs)
        row = seen.page.locator(f'#runs tr[data-run="{seen.ids[name]}"]')
        expect(row).to_contain_text(with_error(scalars, "conductivity"))
    expect(seen.page.locator(f'#runs tr[data-run="{seen.ids["whole"]}"]')).to_contain_text("left training domain")


def test_names_stay_text(seen: Seen) -> None:
    row = seen.page.locator(f'#runs tr[data-run="{seen.ids["markup"]}"]')
    expect(row.locator("td").first).to_have_text(report_lake.MARKUP)
    seen.page.locator("#facet-potential").select_option(report_lake.MARKUP)
    expect(seen.page.locator("#map tbody th")).to_contain_text(report_lake.MARKUP)
    seen.open("markup")
    expect(seen.page.locator("#details h2")).to_contain_text(report_lake.MARKUP)
    seen.open("failed")
    expect(seen.page.locator("#details .flag")).to_contain_text(report_lake.MARKUP)
    assert seen.page.locator("img").count() == 0


def test_a_click_on_the_map_opens_that_composition(seen: Seen) -> None:
    page = seen.page
    page.locator("#facet-temperature_K").select_option("600")
    cell = page.get_by_role("button", name="Li6PS5Cl, 50 % inversion, 600 K")
    cell.and_(page.locator("#map button")).click()
    details = page.locator("#details")
    expect(details.locator("h2")).to_have_text("Li6PS5Cl, 50 % inversion, 600 K")
    expect(details.locator("code").first).to_have_text(seen.ids["whole"])
    expect(details.locator(".warning")).to_contain_text("LiPSCl-study")
    expect(details.locator(".flag").first).to_contain_text("left the domain")
    drawn = set(details.locator("figure:has(.js-plotly-plot)").evaluate_all("all => all.map((f) => f.dataset.plot)"))
    assert drawn == PLOTS
    # What plotly has drawn: lines, points, images of maps.
    for plot, mark, least in (
        ("msd", ".scatterlayer .js-line", 2), ("hops", ".scatterlayer .js-line", 1), ("jumps", ".points path", 3),
        ("coordination", ".scatterlayer .js-line", 3), ("vanhove", ".heatmaplayer image", 1),
        ("distinct", ".heatmaplayer image", 1),
    ):  # fmt: skip
        assert details.locator(f'figure[data-plot="{plot}"] {mark}').count() >= least, plot
    record = next(r for r in seen.lake.search("msd") if seen.ids["whole"] in r.inputs)
    curve = details.locator('figure[data-plot="msd"] .plot').evaluate("p => [p.data[1].x, p.data[1].y]")
    data = seen.lake.open_run(record.id)
    np.testing.assert_allclose(curve[1], data["msd"].sel(lag=curve[0], method="nearest"), rtol=6e-4)
    tree = details.locator("ul.tree").first
    for ancestor in seen.lake.lineage(seen.ids["whole"]).walk():
        expect(tree).to_contain_text(ancestor.id[:8])
    expect(details).to_contain_text("host of 1")
    # The other seed of this cell is one click away, and lacks what was not computed.
    details.locator(".siblings button").click()
    expect(details.locator("code").first).to_have_text(seen.ids["seed"])
    expect(details.locator('figure[data-plot="density"]')).to_contain_text("argyase density --run")


def test_a_bound_is_marked(seen: Seen) -> None:
    bound = seen.page.locator("#map button.bound")
    expect(bound).to_have_count(1)
    expect(bound).to_contain_text("<")
    assert "repeating-linear-gradient" in (bound.get_attribute("style") or "")
    expect(seen.page.locator("#map button.none")).to_contain_text("stopped")


def test_a_click_on_a_point_opens_it(seen: Seen) -> None:
    seen.page.locator("#facet-temperature_K").select_option("900")
    box = seen.page.locator("#points .points path").bounding_box()
    assert box is not None
    seen.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(seen.page.locator("#details code").first).to_have_text(seen.ids["hot"])


def test_sorting_and_filtering(seen: Seen) -> None:
    page = seen.page

    def column(n: int) -> list[str]:
        return page.locator(f"#runs tbody tr:visible td:nth-child({n})").all_inner_texts()

    heads = page.locator("#runs thead th").all_inner_texts()
    temperature = 1 + heads.index("T (K)")
    button = page.locator(f"#runs thead th:nth-child({temperature}) button")
    button.click()
    assert column(temperature) == ["600"] * 5 + ["900", ""]
    button.click()
    assert column(temperature) == ["900"] + ["600"] * 5 + [""]
    expect(page.locator(f"#runs thead th:nth-child({temperature})")).to_have_attribute("aria-sort", "descending")
    page.locator("#filter").fill("50 % li6 900")
    expect(page.locator("#count")).to_have_text("1 of 7 runs")
    assert column(temperature) == ["900"]
    page.locator("#filter").fill(seen.ids["seed"])
    assert page.locator("#runs tbody tr:visible").get_attribute("data-run") == seen.ids["seed"]


def test_without_a_mouse(seen: Seen) -> None:
    page = seen.page
    page.locator("#filter").focus()
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#runs tbody button')"):
            break
    run = page.evaluate("document.activeElement.dataset.run")
    page.keyboard.press("Enter")
    expect(page.locator("#details code").first).to_have_text(run)
    assert page.evaluate("document.activeElement.id") == "details"
    page.keyboard.press("Escape")
    expect(page.locator("#details")).to_be_hidden()
    assert page.evaluate("document.activeElement.dataset.run") == run
    cell = page.locator("#map button").first
    cell.focus()
    page.keyboard.press("Space")
    expect(page.locator("#details h2")).to_be_visible()
    expect(cell).to_have_attribute("aria-pressed", "true")


def test_the_density_turns_and_has_levels(seen: Seen) -> None:
    page = seen.page
    seen.open("whole")
    place = page.locator('figure[data-plot="density"] .space')
    expect(place.locator("canvas").first).to_be_visible()

    def state() -> tuple[int, float, float]:
        """Triangles, and the angles from which one looks at them: about z, and from z."""
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        script = "p => [p.data[0].i.length, ...Object.values(p._fullLayout.scene._scene.getCamera().eye)]"
        count, x, y, z = place.evaluate(script)
        return count, math.atan2(y, x), math.atan2(math.hypot(x, y), z)

    place.scroll_into_view_if_needed()
    triangles, about, down = state()
    assert triangles > 100
    shot = place.screenshot()
    box = place.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 30, steps=5)
    page.mouse.up()
    page.mouse.move(x, y)
    # Half a turn for a drag over the height.
    angle = math.pi / box["height"]
    assert state() == (triangles, pytest.approx(about - 90 * angle), pytest.approx(down - 30 * angle))
    assert place.screenshot() != shot
    place.press("ArrowRight")
    turned = (pytest.approx(about - 90 * angle - math.pi / 18), pytest.approx(down - 30 * angle))
    assert state() == (triangles, *turned)
    told = page.locator('figure[data-plot="density"] output')
    before = told.inner_text()
    page.locator('figure[data-plot="density"] input[type="range"]').press("End")
    expect(told).not_to_have_text(before)
    expect(told).to_contain_text("× mean")
    fewer, *angles = state()
    assert 0 < fewer < triangles
    assert tuple(angles) == turned  # another level from the same side


def test_isosurfaces(seen: Seen) -> None:
    """A sphere has its area and volume; each edge inside of the cell belongs to two triangles, in opposite senses."""
    radius, errors = 0.3, []
    script = "([v, n]) => { const s = isosurface(v, [n, n, n], 0); return [s.points, s.triangles]; }"
    for n in (15, 30):
        grid = np.stack(np.meshgrid(*[np.arange(n) / n - 0.5] * 3, indexing="ij"), axis=-1)
        values = radius - np.linalg.norm(grid, axis=-1)
        points, triangles = (np.array(a) for a in seen.page.evaluate(script, [values.ravel().tolist(), n]))
        a, b, c = (points[triangles[:, k]] - 0.5 for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
        volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
        # Edges are up to l = 3^0.5 / n long: the corners, by linear interpolation along them, and the flat triangles
        # between these are each at most l^2 / 8 radius off the sphere.
        off = 2 * (3 / n**2) / (8 * radius) / radius
        assert area == pytest.approx(4 * math.pi * radius**2, rel=2 * off)
        assert volume == pytest.approx(4 / 3 * math.pi * radius**3, rel=3 * off)
        errors.append(abs(volume / (4 / 3 * math.pi * radius**3) - 1))
    assert 3 < errors[0] / errors[1] < 5  # of second order
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert set(map(tuple, edges)) == {(j, i) for i, j in edges}
    # Across the faces of a cell: planes perpendicular to the first axis, each of area 1 and 1/4 voxel off the grid.
    wave = np.cos(2 * math.pi * (np.arange(n) / n))[:, None, None] * np.ones((n, n, n))
    points, triangles = (np.array(a) for a in seen.page.evaluate(script, [wave.ravel().tolist(), n]))
    a, b, c = (points[triangles[:, k]] for k in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 == pytest.approx(2.0)
    np.testing.assert_allclose(np.unique(points[:, 0].round(6)), [0.25, 0.75], atol=1e-3)


def test_the_policy_holds(browser: Browser, made: tuple[dict[str, str], Path]) -> None:
    """If a name became markup after all, no script of it would run, and nothing could be fetched or sent."""
    page = browser.new_page()
    page.goto((made[1] / "r.html").as_uri())
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.evaluate("m => document.body.insertAdjacentHTML('beforeend', m)", report_lake.MARKUP)
    page.evaluate(
        "() => { const s = document.createElement('script'); s.text = 'window.bad = 3'; document.body.append(s); }"
    )
    refused = page.evaluate("fetch('data:,x').then(() => false, () => true)")
    page.wait_for_timeout(200)
    assert refused
    assert page.evaluate("window.bad") is None
    assert sum("Content Security Policy" in text for text in said) >= 3
    page.close()


def test_it_prints(seen: Seen) -> None:
    seen.open("whole")
    seen.page.emulate_media(media="print")
    for hidden in ("#filter", "#details .close"):
        expect(seen.page.locator(hidden)).to_be_hidden()
    expect(seen.page.locator("#details h2")).to_be_visible()
    assert seen.page.pdf(format="A4").startswith(b"%PDF")
    seen.page.emulate_media(media="screen")
