#!/bin/sh
# Builds the image, with a list of its software (SBOM) and how it came about (provenance) attached.
# k8s/build.sh cpu                            for CPUs: assay:0.1.0 on this machine
# k8s/build.sh cuda REGISTRY/assay:0.1.0-cuda the same with CUDA's base, pushed; prints the line that pins it
# A folder wheelhouse/ (k8s/wheelhouse.sh) is used in place of the internet.
set -eu
cd "$(dirname "$0")/.."
device=${1:-}
image=${2:-}
case $device in cpu | cuda) ;; *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;; esac
. k8s/images.env
for base in "$BASE_CPU" "$BASE_CUDA"; do
  case $base in
    *@sha256:????????????????????????????????????????????????????????????????) ;;
    *)
      echo "k8s/build.sh: $base has no digest, so nobody could tell what was built on; run k8s/pin.sh first" >&2
      exit 2 ;;
  esac
done
set -- --platform linux/amd64 --file k8s/Dockerfile --build-arg DEVICE="$device" \
  --build-arg BASE_CPU="$BASE_CPU" --build-arg BASE_CUDA="$BASE_CUDA"
[ ! -d wheelhouse ] || set -- "$@" --build-context wheelhouse=wheelhouse
if [ -z "$image" ]; then
  tag=0.1.0
  [ "$device" = cpu ] || tag=0.1.0-cuda
  exec docker buildx build "$@" --tag "assay:$tag" --load .
fi
# Attestations live in a registry: an image that is only loaded has none.
docker buildx build "$@" --tag "$image" --sbom=true --provenance=mode=max --push .
digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}')
echo "in the folder of your overlay: kustomize edit set image assay=${image%:*}@$digest"
