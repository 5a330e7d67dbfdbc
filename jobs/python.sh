# Runs the Python in which Ray runs on this machine. Where a cluster was started by the path of its `ray`, the `python` on
# the path of its jobs is another one, or there is none. jobs.submit sends: sh jobs/python.sh -m jobs.study quickstart
process=$PPID
while [ "${process:-0}" -gt 1 ]; do
  prefix=$(sed -n 's|^[^/]*\(/.*\)/lib/python3[^/]*/site-packages/ray/_raylet\.so$|\1|p' "/proc/$process/maps" 2>/dev/null | head -n 1)
  if [ -n "$prefix" ] && [ -x "$prefix/bin/python" ]; then
    exec "$prefix/bin/python" "$@"
  fi
  process=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$process/status" 2>/dev/null)
done
if command -v python >/dev/null; then
  exec python "$@"
fi
exec python3 "$@"
