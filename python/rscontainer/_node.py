"""What :mod:`rscontainer.spec` is made of: dicts and lists that know the specification's names."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, ClassVar, Generic, SupportsIndex, TypeVar, Union, overload

    from typing_extensions import Self

    _N = TypeVar("_N", bound="Node")
    _T = TypeVar("_T")
    _Dict = dict[str, Any]
    _List = list[_T]
    StrPath = Union[str, "os.PathLike[str]"]

    class ValueProperty(Generic[_T]):
        def __init__(self, doc: str) -> None: ...
        @overload
        def __get__(self, node: None, owner: type[Node]) -> Self: ...
        @overload
        def __get__(self, node: Node, owner: type[Node]) -> _T | None: ...
        def __get__(self, node: Any, owner: Any) -> Any: ...
        def __set__(self, node: Node, value: _T | None) -> None: ...
        def __delete__(self, node: Node) -> None: ...

    class PathProperty:
        def __init__(self, doc: str) -> None: ...
        @overload
        def __get__(self, node: None, owner: type[Node]) -> Self: ...
        @overload
        def __get__(self, node: Node, owner: type[Node]) -> str | None: ...
        def __get__(self, node: Any, owner: Any) -> Any: ...
        def __set__(self, node: Node, value: StrPath | None) -> None: ...
        def __delete__(self, node: Node) -> None: ...

    class ObjectProperty(Generic[_N]):
        def __init__(self, node: type[_N], doc: str) -> None: ...
        @overload
        def __get__(self, node: None, owner: type[Node]) -> Self: ...
        @overload
        def __get__(self, node: Node, owner: type[Node]) -> _N: ...
        def __get__(self, node: Any, owner: Any) -> Any: ...
        def __set__(self, node: Node, value: _N | Mapping[str, Any] | None) -> None: ...
        def __delete__(self, node: Node) -> None: ...

    class ValuesProperty(Generic[_T]):
        def __init__(self, doc: str) -> None: ...
        @overload
        def __get__(self, node: None, owner: type[Node]) -> Self: ...
        @overload
        def __get__(self, node: Node, owner: type[Node]) -> Array[_T]: ...
        def __get__(self, node: Any, owner: Any) -> Any: ...
        def __set__(self, node: Node, value: Iterable[_T] | None) -> None: ...
        def __delete__(self, node: Node) -> None: ...

    class ObjectsProperty(Generic[_N]):
        def __init__(self, node: type[_N], doc: str) -> None: ...
        @overload
        def __get__(self, node: None, owner: type[Node]) -> Self: ...
        @overload
        def __get__(self, node: Node, owner: type[Node]) -> Array[_N]: ...
        def __get__(self, node: Any, owner: Any) -> Any: ...
        def __set__(self, node: Node, value: Iterable[_N | Mapping[str, Any]] | None) -> None: ...
        def __delete__(self, node: Node) -> None: ...

else:
    _Dict = dict

    class _ListOf:
        def __class_getitem__(cls, item):
            return list

    _List = _ListOf
    _T = None

    # One property of the specification: a key of the dict, read and written as attribute.
    class _Property:
        def __init__(self, doc):
            self.kind = None
            self.__doc__ = doc

        def __class_getitem__(cls, item):
            return cls

        def __set_name__(self, owner, name):
            self.name = name

        def __get__(self, node, owner):
            if node is None:
                return self
            value = node.get(self.name)
            return node._absent(self) if value is None else value

        def __set__(self, node, value):
            if value is None:
                node.pop(self.name, None)
            elif value is not node.get(self.name):
                node[self.name] = self.checked(node, value)

        def __delete__(self, node):
            if node.pop(self.name, None) is None:
                raise AttributeError(f"{type(node).__name__}.{self.name} is absent already")

        def empty(self, place):
            return None

        def checked(self, node, value):
            return value

        def wrong(self, node, value, wanted):
            at = f"{type(node).__name__}.{self.name}"
            return TypeError(f"{at} must be {wanted}, not {type(value).__name__}: {value!r:.60}")

    class ValueProperty(_Property):
        def checked(self, node, value):
            if isinstance(value, (dict, list, tuple, set)):
                raise self.wrong(node, value, "a single value")
            return value

    class PathProperty(ValueProperty):
        pass

    class ObjectProperty(_Property):
        def __init__(self, kind, doc):
            super().__init__(doc)
            self.kind = kind

        def empty(self, place):
            return self.kind._at(place)

        def checked(self, node, value):
            if not hasattr(value, "keys"):
                raise self.wrong(node, value, f"a {self.kind.__name__} or a dict")
            return value

    class ValuesProperty(_Property):
        def empty(self, place):
            return Array._at(place, self.kind)

        def checked(self, node, value):
            if isinstance(value, (str, bytes)) or hasattr(value, "keys"):
                raise self.wrong(node, value, "a list")
            try:
                return value if isinstance(value, (list, tuple, set, frozenset)) else list(value)
            except TypeError:
                raise self.wrong(node, value, "a list") from None

    class ObjectsProperty(ValuesProperty):
        def __init__(self, kind, doc):
            super().__init__(doc)
            self.kind = kind


_set = object.__setattr__


def _wrap(value: Any, kind: type[Node] | None) -> Any:
    """The value as it is kept in the tree; ``kind`` is what an object in it becomes."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Node):
        if value._place is None and isinstance(value, kind or Node):
            _set(value, "_place", True)
            return value
        value = _plain(value)
    if hasattr(value, "keys"):
        node = (kind or Node)(value)
        _set(node, "_place", True)
        return node
    if isinstance(value, (list, tuple)):
        return Array(value, kind)
    if isinstance(value, (set, frozenset)):
        return Array(sorted(value), kind)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
        if isinstance(value, str):
            return value
    if hasattr(value, "__index__"):
        return value.__index__()
    raise TypeError(f"a config cannot hold a {type(value).__name__}: {value!r:.60}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _nearest(written: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    folded = {name.lower(): name for name in known}
    bare = written.replace("_", "").replace("-", "").lower()
    if bare in folded:
        return folded[bare]
    # Only on the way to an error, so not worth the import at start.
    from difflib import get_close_matches

    near = get_close_matches(bare, folded, n=1, cutoff=0.75)
    return folded[near[0]] if near else None


class Array(_List[_T]):
    """A JSON array in a config: a ``list`` that turns what is put into it into nodes."""

    __slots__ = ("_kind", "_place")

    _kind: type[Node] | None
    _place: Any

    def __init__(self, items: Iterable[Any] = (), kind: type[Node] | None = None) -> None:
        self._kind = kind
        self._place = None
        super().__init__([_wrap(item, kind) for item in items])

    @classmethod
    def _at(cls, place: tuple[Node, str], kind: type[Node] | None) -> Self:
        array = cls((), kind)
        array._place = place
        return array

    def _attach(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place[0]._adopt(place[1], self)

    def append(self, item: Any) -> None:
        """Adds an item at the end; a dict becomes a node."""
        wrapped = _wrap(item, self._kind)
        self._attach()
        super().append(wrapped)

    def extend(self, items: Iterable[Any]) -> None:
        """Adds items at the end; dicts become nodes."""
        wrapped = [_wrap(item, self._kind) for item in items]
        self._attach()
        super().extend(wrapped)

    def insert(self, index: SupportsIndex, item: Any) -> None:
        """Adds an item before an index; a dict becomes a node."""
        wrapped = _wrap(item, self._kind)
        self._attach()
        super().insert(index, wrapped)

    def __setitem__(self, index: Any, item: Any) -> None:
        if isinstance(index, slice):
            wrapped: Any = [_wrap(item, self._kind) for item in item]
        else:
            wrapped = _wrap(item, self._kind)
        self._attach()
        super().__setitem__(index, wrapped)

    def __iadd__(self, items: Iterable[Any]) -> Self:  # type: ignore[override,misc]
        self.extend(items)
        return self

    def __imul__(self, times: SupportsIndex) -> Self:
        self[:] = _plain(self) * times.__index__()
        return self

    def copy(self) -> list[Any]:
        """A copy as plain lists and dicts, all the way down."""
        return [_plain(item) for item in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.copy(),)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return self.__reduce__()


class Node(_Dict):
    """A JSON object of the config: a ``dict`` whose known keys are attributes too.

    Made from a mapping, which is copied and may have unknown keys, or from keywords, which
    may not: ``Mount(destination="/tmp", type="tmpfs")``.

    Raises:
        TypeError: for a keyword that the specification does not know, and for values that
            JSON does not have. Paths, sets and integer-like objects are converted.
    """

    __slots__ = ("_empty", "_place")

    # Where the node belongs: nowhere (None), in a tree (True), or, as yet absent from it,
    # under a key of a parent.
    _place: Any
    # The children that were read while absent, so that two readers get the same one.
    _empty: dict[str, Any] | None

    _properties: ClassVar[dict[str, Any]] = {}
    _item: type[Node] | None = None

    def __init__(self, members: Mapping[str, Any] | None = None, /, **properties: Any) -> None:
        _set(self, "_place", None)
        _set(self, "_empty", None)
        super().__init__()
        if members is not None:
            if not hasattr(members, "keys"):
                wanted = f"{type(self).__name__} is made from a dict"
                raise TypeError(f"{wanted}, not from {type(members).__name__}: {members!r:.60}")
            for key in members.keys():  # noqa: SIM118 - a mapping need not be iterable
                self[key] = _plain(members[key])
        for name, value in properties.items():
            if name not in self._properties:
                raise TypeError(self._unknown(name))
            setattr(self, name, value)

    def __init_subclass__(cls) -> None:
        # The descriptors are the one list of names; `vars` keeps their order.
        own = {name: value for name, value in vars(cls).items() if hasattr(value, "kind")}
        cls._properties = {**cls._properties, **own}

    @classmethod
    def _at(cls, place: tuple[Node, str]) -> Self:
        node = cls()
        _set(node, "_place", place)
        return node

    def _absent(self, property: Any) -> Any:
        """What an absent property reads as: the same empty child each time, or None."""
        if self._empty and property.name in self._empty:
            return self._empty[property.name]
        child = property.empty((self, property.name))
        if child is None:
            return None
        if self._empty is None:
            _set(self, "_empty", {})
        # Atomic, so that of two threads both get the child of the first.
        return self._empty.setdefault(property.name, child)  # type: ignore[union-attr]

    def _attach(self) -> None:
        place = self._place
        if isinstance(place, tuple):
            _set(self, "_place", True)
            place[0]._adopt(place[1], self)

    def _adopt(self, key: str, child: Any) -> None:
        self._attach()
        self._forget(key)
        super().__setitem__(key, child)

    def _forget(self, key: str) -> None:
        """Cuts off an empty child whose place has been taken."""
        child = self._empty.pop(key, None) if self._empty else None
        if child is not None and isinstance(child._place, tuple):
            _set(child, "_place", None)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a JSON key is a str, not {type(key).__name__}: {key!r:.60}")
        known = self._properties.get(key)
        wrapped = _wrap(value, known.kind if known else self._item)
        self._attach()
        self._forget(key)
        super().__setitem__(key, wrapped)

    # With these in sight, a type checker would let every name pass.
    if not TYPE_CHECKING:

        def __setattr__(self, name, value):
            known = self._properties.get(name)
            if known is None:
                raise AttributeError(self._unknown(name))
            known.__set__(self, value)

        def __getattr__(self, name):
            raise AttributeError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        at = f"{type(self).__name__}.{name}"
        if self._item is not None or name in self:
            return f'{at} is no property of the specification; as a key it is ["{name}"]'
        meant = None if name.startswith("_") else _nearest(name, self._properties)
        hint = f"; did you mean {meant}?" if meant else ""
        return f"{at} is no property of the specification{hint}"

    def update(self, *members: Any, **more: Any) -> None:
        """As ``dict.update``; dicts become nodes."""
        for key, value in dict(*members, **more).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As ``dict.setdefault``; a dict becomes a node."""
        if key not in self:
            self[key] = default
        return self[key]

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The object as plain dicts and lists, copied all the way down."""
        return {key: _plain(value) for key, value in self.items()}

    def copy(self) -> Self:
        """A copy all the way down, which has no place in a tree yet."""
        return type(self)(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.to_dict(),)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return self.__reduce__()

    def __repr__(self) -> str:
        members = ", ".join(f"{key}={value!r:.60}" for key, value in self.items())
        return f"{type(self).__name__}({members if len(members) <= 200 else members[:199] + '…'})"

    def _typos(self, path: str) -> Iterator[str]:
        """Unknown keys that look like a slip of the pen, as warnings."""
        for key, value in self.items():
            if self._properties and key not in self._properties:
                meant = _nearest(key, self._properties)
                # A name can be meant once: an extension may well resemble one that is there.
                if meant is not None and meant not in self:
                    yield f"{path}.{key}: unknown, and ignored; did you mean {meant}?"
            for index, item in enumerate(value if isinstance(value, list) else ()):
                if isinstance(item, Node):
                    yield from item._typos(f"{path}.{key}[{index}]")
            if isinstance(value, Node):
                yield from value._typos(f"{path}.{key}")


class Map(Node):
    """An object whose keys are the user's: ``spec.annotations["com.example.key"] = "value"``."""

    __slots__ = ()
    _item = Node
