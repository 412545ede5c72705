"""The dashboard: a live page for operators, and the way back from any recommendation.

Modules by name: ``routes`` (the pages and the stream), ``board`` (who computes the panels, and when),
``panels`` (what each one holds), ``traffic``, ``rewards``, ``progress``, ``training``, ``drift`` and ``said``
(their figures), ``charts`` (lines as SVG), ``provenance`` (one request), ``words`` and ``texts``.

Another panel is a function and a line in ``panels.PANELS``, a template ``panels/NAME.html`` and its title.
"""

from recloop.web.dashboard.routes import SCOPES, Dashboard

__all__ = ["SCOPES", "Dashboard"]
