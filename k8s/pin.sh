#!/bin/sh
# Asks the registry for the digests of the bases in k8s/images.env, and writes them there. Look at the change, and commit it.
set -eu
cd "$(dirname "$0")"
docker buildx version >/dev/null 2>&1 || { echo "k8s/pin.sh: needs docker with its plugin buildx" >&2; exit 2; }
trap 'rm -f images.env.new' EXIT
while IFS= read -r line; do
  case $line in
    BASE_*)
      # The tag stays, for people; the digest is what counts.
      tag=${line#*=}
      tag=${tag%@*}
      digest=$(docker buildx imagetools inspect "$tag" --format '{{.Manifest.Digest}}')
      case $digest in
        sha256:*) ;;
        *) echo "k8s/pin.sh: the registry gave no digest for $tag" >&2; exit 1 ;;
      esac
      printf '%s=%s@%s\n' "${line%%=*}" "$tag" "$digest" ;;
    *) printf '%s\n' "$line" ;;
  esac
done <images.env >images.env.new
mv images.env.new images.env
cat images.env
