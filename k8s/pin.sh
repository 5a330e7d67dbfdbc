#!/bin/sh
# Asks the registry for the digests of the bases in k8s/images.env, and writes them there. Look at the change, and commit it.
set -eu
cd "$(dirname "$0")"
while IFS= read -r line; do
  case $line in
    BASE_*)
      # The tag stays, for people; the digest is what counts.
      tag=${line#*=}
      tag=${tag%@*}
      digest=$(docker buildx imagetools inspect "$tag" --format '{{.Manifest.Digest}}')
      printf '%s=%s@%s\n' "${line%%=*}" "$tag" "$digest" ;;
    *) printf '%s\n' "$line" ;;
  esac
done <images.env >images.env.new
mv images.env.new images.env
cat images.env
